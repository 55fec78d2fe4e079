/**
 * A statement as a caller hands it over, made into what is sent. Here and at once: it may then wait for a connection and
 * be sent by whoever makes room, who is another tenant as a rule. So what a value does to become a parameter
 * (`toPostgres`, `toJSON`), it does as its caller, and nothing of the caller's is asked again later.
 */
import type { CustomTypesConfig } from 'pg';
import { isSignal } from '../signal.js';
import type { Statement } from './group.js';
import { refused } from './refused.js';
import { type Parameter, toParameter } from './wire.js';

export interface Given {
  readonly text: string;
  readonly values?: readonly unknown[] | undefined;
  readonly rowMode?: 'array' | undefined;
  readonly types?: CustomTypesConfig | undefined;
}

/** How long a statement may take. */
export interface Limits {
  readonly signal?: AbortSignal | undefined;
  /** In ms; in a transaction at most the transaction's own. */
  readonly timeoutMs?: number | undefined;
}

/**
 * Text, or an object that has it.
 * @throws TenantryError STATEMENT_REFUSED of what is neither, and of a cursor or a stream of node-postgres: that writes to the
 *   connection by itself, keeps a portal open, and would wait for ever for an answer
 */
export function configOf(
  textOrConfig: string | (Given & Limits),
  values?: readonly unknown[],
): Given & Limits & { readonly dedicated?: boolean | undefined } {
  if (typeof textOrConfig === 'string') return { text: textOrConfig, values };
  if (typeof textOrConfig !== 'object' || textOrConfig === null) throw refused('it is not text with values');
  if ('submit' in textOrConfig)
    throw refused(
      'cursors and streams of pg are not supported: DECLARE and FETCH in a transaction do the same',
    );
  return values === undefined ? textOrConfig : { ...textOrConfig, values };
}

/** The protocol counts them in 16 bits. */
const MOST_VALUES = 65_535;
/**
 * Bytes of a message that the server reads, less what is in it beside text and values. A longer one it does not refuse:
 * it drops the connection, and with it what others have under way there.
 */
const LONGEST = 2 ** 30 - 2 ** 20;

/** @throws TenantryError STATEMENT_REFUSED, and what a value throws on its way to a parameter */
export function statementOf({ text, values = [], rowMode, types }: Given): Statement {
  if (typeof text !== 'string' || !Array.isArray(values)) throw refused('it is not text with values');
  const { length } = values;
  if (length > MOST_VALUES) throw refused(`it has more than ${MOST_VALUES} values`);
  const parameters: Parameter[] = [];
  // Not by a method of theirs, which may have no end; and what is missing between them is null.
  for (let at = 0; at < length; at++) parameters.push(toParameter(values[at]));
  if (isTooLong(text, parameters)) throw refused('it is longer than the server reads');
  return { text, values: parameters, rowMode, types };
}

/** Read once, too. @throws TenantryError STATEMENT_REFUSED of what is no signal or no time */
export function limitsOf({ signal, timeoutMs }: Limits): Limits {
  if (signal !== undefined && !isSignal(signal)) throw refused('its signal is none');
  // It becomes a part of texts that are compared.
  if (timeoutMs !== undefined && !(Number.isFinite(timeoutMs) && timeoutMs >= 0))
    throw refused('its time-out is no number from 0');
  return { signal, timeoutMs };
}

function isTooLong(text: string, parameters: readonly Parameter[]): boolean {
  let units = text.length;
  for (const parameter of parameters) units += parameter?.length ?? 0;
  // UTF-8 has three bytes at most for each unit of UTF-16; counting them is left to where it could matter.
  if (units * 3 <= LONGEST) return false;
  return [text, ...parameters].reduce((sum, part) => sum + Buffer.byteLength(part ?? ''), 0) > LONGEST;
}
