/**
 * The headers in which Temporal carries a tenant's context, and what each text in them is bound to. Pure: it goes into
 * the workflow bundle, which has no key and no cryptography and passes the texts on as they are.
 */
import { defaultPayloadConverter, type Headers, type Payload } from '@temporalio/common';

/** Whose run this is. Bound to the workflow's id and type, so that in any other run it is refused. */
export const CONTEXT_HEADER = 'tenantry-context';
/** Who sends this signal or update. Bound to the id of the workflow that it is sent to. */
export const MESSAGE_HEADER = 'tenantry-message';

/** Local activities of ours, answered by the activity interceptor. */
export const ADMIT = 'tenantryAdmitContext';
export const DERIVE = 'tenantryDeriveContext';
export const CHECK_MESSAGE = 'tenantryCheckMessage';

export interface AdmitInput {
  /** When the chain of runs began, by the server's clock. Milliseconds since 1970. */
  readonly startedAt: number;
}

/** For what a text is wanted: a child or another type to go on as, or a signal to another workflow. */
export type DeriveInput =
  | { readonly kind: 'workflow'; readonly workflowId: string; readonly workflowType: string }
  | { readonly kind: 'message'; readonly workflowId: string };

export interface CheckMessageInput {
  readonly text: string | undefined;
  /** What the validator of an update says against it: told when it is known that the sender may hear it. */
  readonly objection?: Objection | undefined;
  /** Whether another worker accepted the update, so that what its validator said of it is not known. */
  readonly isTakenOver?: boolean;
}

export interface Objection {
  readonly message: string;
  readonly type?: string | undefined;
  readonly details?: readonly unknown[] | undefined;
}

export interface OwnActivities {
  [ADMIT](input: AdmitInput): Promise<void>;
  [DERIVE](input: DeriveInput): Promise<string>;
  [CHECK_MESSAGE](input: CheckMessageInput): Promise<void>;
}

export function withText(headers: Headers, name: string, text: string): Headers {
  return { ...headers, [name]: defaultPayloadConverter.toPayload(text) };
}

/** What is no text is as good as none. */
export function textIn(headers: Headers, name: string): string | undefined {
  const payload: Payload | undefined = headers[name];
  if (payload === undefined) return undefined;
  try {
    const text: unknown = defaultPayloadConverter.fromPayload(payload);
    return typeof text === 'string' ? text : undefined;
  } catch {
    // Bytes of somebody else's encoding.
    return undefined;
  }
}
