/**
 * Hardened cells: tokens that open nothing, and what SQL that was injected into a tenant's statement tries with a name or
 * a token.
 */
import { randomBytes } from 'node:crypto';
import { escapeLiteral } from 'pg';
import { cellName } from '../../domain/ids.js';
import { type ContextKey, deriveContextKey, FIRST_CONTEXT_KEY } from '../../keys/context-key.js';
import { signToken } from '../../tenancy/postgres/token.js';
import type { PostgresStatement, Sql } from './postgres-statements.js';
import type { Subject } from './referee.js';
import type { Scene } from './scene.js';

/** As the product's process signs it. */
export const tokenOf = (scene: Scene, { tenantId }: Subject): string =>
  signToken(tenantId, keyOf(scene), inAMinute());
export const enterWith = (token: string): string =>
  `tenantry.enter_with_token(${escapeLiteral(token)}, NULL, NULL)`;

const keyOf = ({ stage, subject }: Scene, id = FIRST_CONTEXT_KEY): ContextKey =>
  deriveContextKey(stage.ground.rootKey, subject.cell.cell.name, id);
const inAMinute = (): Date => new Date(Date.now() + 60_000);
const aMinuteAgo = (): Date => new Date(Date.now() - 60_000);

/** Each with the SQLSTATE that refuses it. */
export const BAD_TOKENS: readonly {
  readonly kind: string;
  readonly code: 'TN002' | 'TN003';
  token(scene: Scene, whose: Subject): string;
}[] = [
  {
    kind: 'token under the signature of another tenant',
    code: 'TN002',
    token(scene, whose) {
      const signer = whose === scene.subject ? scene.other : scene.subject;
      return whose.tenantId + tokenOf(scene, signer).slice(whose.tenantId.length);
    },
  },
  {
    kind: 'token of a made-up key',
    code: 'TN002',
    token: (_scene, { tenantId }) =>
      signToken(tenantId, { id: FIRST_CONTEXT_KEY, secret: randomBytes(32) }, inAMinute()),
  },
  {
    kind: 'token of the key of another cell',
    code: 'TN002',
    token({ stage }, { tenantId }) {
      const theirs = deriveContextKey(stage.ground.rootKey, cellName('elsewhere'), FIRST_CONTEXT_KEY);
      return signToken(tenantId, theirs, inAMinute());
    },
  },
  {
    kind: 'token of a key that the cell does not have',
    code: 'TN002',
    token: (scene, { tenantId }) => signToken(tenantId, keyOf(scene, FIRST_CONTEXT_KEY + 1), inAMinute()),
  },
  {
    kind: 'token whose end was put off',
    code: 'TN002',
    token: (scene, { tenantId }) =>
      signToken(tenantId, keyOf(scene), aMinuteAgo()).replace(/\.\d/, (digit) => `${digit}0`),
  },
  {
    kind: 'token that has expired, replayed',
    code: 'TN003',
    token: (scene, { tenantId }) => signToken(tenantId, keyOf(scene), aMinuteAgo()),
  },
  { kind: 'name in the place of a token', code: 'TN002', token: (_scene, { tenantId }) => tenantId },
];

/** As typed into a field that stands in the text of a statement. */
const typed = (text: string): Sql => ({
  text: `SELECT tenant_id, name FROM app.customers WHERE email = '${text} --'`,
});
/** Evaluated whether or not the tenant has any rows. */
const union = (expression: string): Sql => typed(`' UNION ALL SELECT NULL, (${expression})::text`);

/** By a tenant that has been entered. */
export const HARDENED_STATEMENTS: readonly PostgresStatement[] = [
  {
    kind: "injected: another's token, replayed",
    weight: 1,
    inTransaction: true,
    must: 'be refused',
    codes: ['TN001'],
    sql: (scene) => union(enterWith(tokenOf(scene, scene.other))),
  },
  {
    kind: "injected: another's token, forged or expired",
    weight: 1,
    inTransaction: true,
    must: 'be refused',
    codes: ['TN001'],
    sql: (scene) => union(enterWith(scene.random.pick(BAD_TOKENS).token(scene, scene.other))),
  },
  {
    kind: 'injected: a token as a setting',
    weight: 1,
    inTransaction: true,
    must: 'be refused',
    codes: ['42501'],
    sql: (scene) =>
      union(`set_config('app.tenant_token', ${escapeLiteral(tokenOf(scene, scene.other))}, true)`),
  },
  {
    kind: "injected: another's name as the plain setting",
    weight: 2,
    must: 'be refused',
    // Not by a function, not by one that runs a text, not behind a semicolon.
    codes: ['42501', '0A000', '42601'],
    sql: ({ random, other: { tenantId } }) =>
      random.pick([
        union(`set_config('app.tenant_id', '${tenantId}', true)`),
        union(`query_to_xml('SET LOCAL app.tenant_id = ''${tenantId}''', true, true, '')`),
        typed(`'; SET LOCAL app.tenant_id = '${tenantId}'; SELECT tenant_id, name FROM app.customers`),
      ]),
  },
  {
    kind: 'injected: the key',
    weight: 1,
    inTransaction: true,
    must: 'be refused',
    codes: ['42501'],
    sql: () => union(`SELECT encode(inner_pad, 'hex') FROM tenantry.context_key`),
  },
];
