/** W3C Trace Context and Baggage as they come with a request: kept when they are well formed, else as if not sent. */
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';

export interface Trace {
  /** The trace's id, or a fresh one. */
  readonly correlationId: string;
  readonly traceparent?: string;
  readonly baggage?: string;
}

/** https://www.w3.org/TR/trace-context/#traceparent-header: a later version may go on after the flags. */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[\x21-\x7e]{1,200})?$/;
/** https://www.w3.org/TR/baggage/: 64 members and 8,192 bytes are what must be passed on; more is dropped. */
const BAGGAGE_BYTES = 8_192;
const BAGGAGE_MEMBERS = 64;
const TOKEN = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
const VALUE = String.raw`[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]+`;
// Blanks around an empty value are matched by one quantifier. With two, each property of a member that does not match in
// the end would double the time.
const ASSIGNED = `=[ \\t]*(?:${VALUE}[ \\t]*)?`;
const MEMBER = new RegExp(`^[ \\t]*${TOKEN}[ \\t]*${ASSIGNED}(?:;[ \\t]*${TOKEN}[ \\t]*(?:${ASSIGNED})?)*$`);

export function traceOf(headers: IncomingHttpHeaders): Trace {
  const { traceparent, baggage } = headers;
  const traceId = typeof traceparent === 'string' ? traceIdOf(traceparent) : undefined;
  if (traceId === undefined && baggage === undefined) return { correlationId: randomUUID() };
  return {
    correlationId: traceId ?? randomUUID(),
    ...(traceId !== undefined && typeof traceparent === 'string' ? { traceparent } : {}),
    ...(typeof baggage === 'string' && isBaggage(baggage) ? { baggage } : {}),
  };
}

function traceIdOf(text: string): string | undefined {
  const [, version, traceId, parentId, more] = TRACEPARENT.exec(text) ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && more !== undefined)) return undefined;
  return /^0+$/.test(traceId ?? '') || /^0+$/.test(parentId ?? '') ? undefined : traceId;
}

function isBaggage(text: string): boolean {
  if (text.length > BAGGAGE_BYTES) return false;
  const members = text.split(',');
  return members.length <= BAGGAGE_MEMBERS && members.every((member) => MEMBER.test(member));
}
