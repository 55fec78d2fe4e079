/**
 * Which statements may run on a connection that other tenants use next: those that read and write rows, by their first
 * word. Everything that ends or begins a transaction, changes the session or leaves something behind in it is not on
 * the list. Nor is EXPLAIN, which tells of all tenants' rows (estimates, rows removed by the policies) and of statements
 * that others have prepared; nor LOCK, which holds up all tenants. The server takes one statement at a time (extended
 * protocol), so the first word says what it is.
 */
import { refused } from './refused.js';

const ROWS = new Set(['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'MERGE', 'WITH', 'VALUES', 'TABLE']);
const IN_TRANSACTION = new Set(['SAVEPOINT', 'RELEASE', 'DECLARE', 'FETCH', 'MOVE', 'CLOSE']);

/** Words at the beginning that decide; the rest of a statement is not read. */
const WORDS = /[A-Za-z_][A-Za-z0-9_$]*|\S/g;

/** @throws TenantryError STATEMENT_REFUSED */
export function admitStatement(text: string, where: 'alone' | 'in transaction'): void {
  if (text.includes('\0')) refuse('it has a NUL character');
  const first = keywordOf(text);
  if (ROWS.has(first)) return;
  if (where === 'in transaction') {
    if (first === 'DECLARE') return admitCursor(text);
    if (IN_TRANSACTION.has(first)) return;
    if (first === 'ROLLBACK' && isRollbackToSavepoint(text)) return;
  }
  refuse(
    first === '' ? 'it is empty' : `${first.slice(0, 30)} is not among the statements that may run here`,
  );
}

/** Of what may run in a transaction: a rollback to a savepoint. */
export const isRollback = (text: string): boolean => keywordOf(text) === 'ROLLBACK';

/** Of what may run in a transaction: one that is read from by later statements. */
export const isCursor = (text: string): boolean => keywordOf(text) === 'DECLARE';

/** What a tool such as an ORM says through a connected client to begin or end a transaction; undefined for others. */
export type TransactionCommand =
  | { readonly kind: 'begin'; readonly modes: string }
  | { readonly kind: 'commit' | 'rollback' };

const MODES =
  /^(\s|,|isolation\s+level\s+(serializable|repeatable\s+read|read\s+committed|read\s+uncommitted)|read\s+(only|write)|(not\s+)?deferrable)*$/i;

/** @throws TenantryError STATEMENT_REFUSED for a form of them that is not known */
export function transactionCommand(text: string): TransactionCommand | undefined {
  const first = keywordOf(text);
  if (!['BEGIN', 'START', 'COMMIT', 'END', 'ROLLBACK', 'ABORT'].includes(first)) return undefined;
  const plain = withoutComments(text).trim().replace(/;\s*$/, '');
  const begin = /^(?:begin(?:\s+work|\s+transaction)?|start\s+transaction)\b(.*)$/is.exec(plain);
  if (begin !== null && MODES.test(begin[1] ?? '')) return { kind: 'begin', modes: (begin[1] ?? '').trim() };
  if (/^(commit|end)(\s+work|\s+transaction)?$/i.test(plain)) return { kind: 'commit' };
  if (/^(rollback|abort)(\s+work|\s+transaction)?$/i.test(plain)) return { kind: 'rollback' };
  if (first === 'ROLLBACK' && isRollbackToSavepoint(text)) return undefined;
  return refuse(`this form of ${first} is not known`);
}

function admitCursor(text: string): void {
  // The word anywhere, so that no quoting hides it. What is refused too much is a query about a column of that name.
  if (/\bhold\b/i.test(text)) refuse('a cursor WITH HOLD outlives its transaction');
}

const isRollbackToSavepoint = (text: string): boolean =>
  /^rollback(\s+work|\s+transaction)?\s+to\b/i.test(withoutComments(text).trim());

/** The first word in capitals; of a query in brackets, the first word in them. '' when there is none. */
function keywordOf(text: string): string {
  let at = 0;
  for (;;) {
    at = skipBlank(text, at);
    if (text[at] !== '(') break;
    at += 1;
  }
  WORDS.lastIndex = at;
  return WORDS.exec(text)?.[0].toUpperCase() ?? '';
}

/** Past white space as PostgreSQL's scanner knows it (Unicode's other spaces are not) and comments, which nest. */
function skipBlank(text: string, from: number): number {
  let at = from;
  for (;;) {
    if (/[ \t\n\r\f\v]/.test(text[at] ?? '')) at += 1;
    else if (text.startsWith('--', at)) {
      while (at < text.length && text[at] !== '\n' && text[at] !== '\r') at += 1;
    } else if (text.startsWith('/*', at)) at = endOfComment(text, at);
    else return at;
  }
}

function endOfComment(text: string, from: number): number {
  let depth = 0;
  let at = from;
  do {
    if (text.startsWith('/*', at)) {
      depth += 1;
      at += 2;
    } else if (text.startsWith('*/', at)) {
      depth -= 1;
      at += 2;
    } else at += 1;
  } while (depth > 0 && at < text.length);
  return at;
}

/** Comments as one space each; of statements that have no strings. */
function withoutComments(text: string): string {
  let out = '';
  for (let at = 0; at < text.length; ) {
    if (text.startsWith('--', at)) {
      while (at < text.length && text[at] !== '\n' && text[at] !== '\r') at += 1;
      out += ' ';
    } else if (text.startsWith('/*', at)) {
      at = endOfComment(text, at);
      out += ' ';
    } else {
      out += text[at];
      at += 1;
    }
  }
  return out;
}

function refuse(reason: string): never {
  throw refused(reason);
}
