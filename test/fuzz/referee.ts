/**
 * Judges what a tenant was shown. Each value that is written names its owner, so one that is read is judged by its
 * reader alone: a foreign owner is wrong, and so is an answer where there had to be a refusal, data of a tenant that was
 * cut off before the statement began, or the loss of what is the reader's own. An error must be one that was to be
 * expected.
 */
import { inspect } from 'node:util';
import { DatabaseError } from 'pg';
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { findCurrentTenant } from '../../tenancy/context/tenant-context.js';
import type { Cell, Way } from './ground.js';

export type FuzzStore = 'postgres' | 'mongo' | 'redis' | 'context';

/** Taken away by a suspension that has been acknowledged and whose end has not been asked for yet. */
export interface Cut {
  readonly mode: 'blocked' | 'read-only';
}

/** A tenant as the fuzzer knows it. */
export interface Subject {
  readonly index: number;
  readonly tenantId: TenantId;
  /** Where it lives, which is how it reaches PostgreSQL. */
  readonly cell: Cell;
  readonly hasMongo: boolean;
  readonly passwords: Record<'mongo' | 'redis', { value: string; version: number }>;
  generation: number;
  readonly cuts: Partial<Record<FuzzStore, Cut>>;
  /** Raised at the beginning and at the end of each suspension: odd while one is going on. */
  suspensions: number;
  /** A fault is at work on this tenant. */
  busy: boolean;
}

export interface Rule {
  readonly store: FuzzStore;
  readonly kind: string;
  readonly write?: boolean;
  readonly must?: undefined | 'be refused' | 'see nothing' | 'see its own';
  /** Errors that may come; of what must be refused, those that refuse it. */
  readonly codes?: readonly string[];
  /** A suspension does not take it away: it reads a snapshot from before, or what every tenant may know. */
  readonly uncut?: boolean;
  /** `suspensions` when the snapshot was taken that it reads; as of now where there is none. */
  readonly since?: number;
}

/** What was read, and of how many things, changed ones included. */
export interface Seen {
  readonly values: unknown;
  readonly count: number;
}

export type Attempt = { readonly seen: Seen } | { readonly error: unknown };

export interface Tally {
  operations: number;
  wrong: number;
  unexpected: number;
  answered: number;
  /** As they had to be. */
  refused: number;
  /** Refused by a suspension. */
  suspended: number;
  /** By faults: connections that were killed, cancellations, time-outs, conflicts. */
  failed: number;
  /** Values whose owner was looked at. */
  judged: number;
  readonly byStore: Record<string, number>;
  /** PostgreSQL's, by the way the tenant reaches it. */
  readonly byWay: Record<string, number>;
  readonly byKind: Record<string, number>;
  readonly byCode: Record<string, number>;
}

export interface Finding {
  readonly what: string;
  readonly store: FuzzStore;
  readonly way: Way;
  readonly kind: string;
  readonly tenant: number;
}

const MARK = /of:([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})/g;
/** What is written: whose it is, and anything. */
export const markOf = (tenantId: TenantId, text = ''): string => `of:${tenantId} ${text}`;

/** What a connection that is killed, or the crowd that waits for the next one, comes to. */
const BY_FAULT = new Set(['STORE_UNAVAILABLE', 'CLIENTS_EXHAUSTED']);
/** What a suspension comes to while it is going on: by PostgreSQL's policies, MongoDB's role, Redis' ACL. */
const BY_CUT = /^(42501|STORE_REFUSED\/(code 13\b.*|NOPERM|EXECABORT))$/;
const TAIL = 60;

export class Referee {
  readonly tally: Tally = {
    operations: 0,
    wrong: 0,
    unexpected: 0,
    answered: 0,
    refused: 0,
    suspended: 0,
    failed: 0,
    judged: 0,
    byStore: {},
    byWay: {},
    byKind: {},
    byCode: {},
  };
  readonly findings: Finding[] = [];
  pending = 0;
  readonly #known = new Map<string, number>();
  readonly #tail: string[] = [];
  readonly #judged = new WeakSet<object>();
  readonly #waiting: { readonly at: number; readonly wake: () => void }[] = [];

  constructor(
    subjects: readonly Subject[],
    private readonly onFinding: () => void,
  ) {
    for (const { tenantId, index } of subjects) this.#known.set(tenantId, index);
  }

  /** One operation. Never throws: who needs it looks at what came. */
  async attempt(subject: Subject, rule: Rule, work: () => Promise<Seen>): Promise<Attempt> {
    const judge = this.begin(subject, rule);
    let attempt: Attempt;
    try {
      attempt = { seen: await work() };
    } catch (error) {
      attempt = { error };
    }
    judge(attempt);
    return attempt;
  }

  /** For operations that go together: each is begun, and judged by what it came to. */
  begin(subject: Subject, rule: Rule): (attempt: Attempt) => void {
    const cut = subject.cuts[rule.store];
    const suspensions = rule.since ?? subject.suspensions;
    this.pending += 1;
    return (attempt) => {
      this.pending -= 1;
      const disturbed = suspensions % 2 === 1 || subject.suspensions !== suspensions;
      if (findCurrentTenant()?.tenantId !== subject.tenantId)
        this.#find(subject, rule, 'it came back in the context of another tenant or of none');
      // Cut off before it began, and not given back before it ended.
      const stands = cut !== undefined && subject.cuts[rule.store] === cut && rule.uncut !== true;
      const verdict =
        'seen' in attempt
          ? this.#onAnswer(subject, rule, attempt.seen, disturbed, stands ? cut : undefined)
          : this.#onError(subject, rule, attempt.error, disturbed);
      this.#count(subject, rule, verdict);
    };
  }

  #onAnswer(subject: Subject, rule: Rule, seen: Seen, disturbed: boolean, cut: Cut | undefined): string {
    const owners = this.#ownersIn(seen.values);
    const foreign = owners.find((owner) => owner !== subject.tenantId);
    if (foreign !== undefined)
      return this.#find(
        subject,
        rule,
        `it was shown what is tenant ${this.#known.get(foreign) ?? 'unknown'}'s`,
      );
    if (rule.must === 'be refused') return this.#find(subject, rule, 'it was answered and not refused');
    if (rule.must === 'see nothing' && seen.count > 0)
      return this.#find(subject, rule, `it reached ${seen.count} that are not its own`);
    if (rule.must === 'see its own' && owners.length === 0 && !disturbed)
      return this.#find(subject, rule, 'its own data were not there');
    if (cut !== undefined && seen.count > 0 && (cut.mode === 'blocked' || rule.write === true))
      return this.#find(
        subject,
        rule,
        `it reached ${seen.count} although it was ${cut.mode} before it began`,
      );
    this.tally.answered += 1;
    return 'ok';
  }

  #onError(subject: Subject, rule: Rule, error: unknown, disturbed: boolean): string {
    const code = codeOf(error);
    raise(this.tally.byCode, code);
    // One that a statement in a transaction has thrown ends the transaction too.
    const told = typeof error === 'object' && error !== null && this.#judged.has(error);
    if (typeof error === 'object' && error !== null) this.#judged.add(error);
    if (code === 'ISOLATION_BREACH') return this.#find(subject, rule, 'the data plane itself found a breach');
    if (rule.codes?.includes(code) === true) {
      if (rule.must === 'be refused') this.tally.refused += 1;
      else this.tally.failed += 1;
    } else if (isBySuspension(subject, code, disturbed)) this.tally.suspended += 1;
    else if (BY_FAULT.has(code) || told) this.tally.failed += 1;
    else return this.#unexpected(subject, rule, code, error);
    return code;
  }

  /** Of entering a tenant: it is no operation, but its failure must be one that was to be expected. */
  entryFailed(subject: Subject, error: unknown): void {
    const rule: Rule = { store: 'context', kind: 'enter' };
    const code = codeOf(error);
    if (isBySuspension(subject, code, false)) this.tally.suspended += 1;
    else this.#unexpected(subject, rule, code, error);
  }

  /** Resolves when that many operations have come back since now. */
  after(operations: number): Promise<void> {
    return new Promise((wake) => this.#waiting.push({ at: this.tally.operations + operations, wake }));
  }

  wakeAll(): void {
    for (const { wake } of this.#waiting.splice(0)) wake();
  }

  /** The last operations, the oldest first. */
  tail(): readonly string[] {
    return this.#tail;
  }

  #count({ index, cell }: Subject, { store, kind }: Rule, verdict: string): void {
    const { tally } = this;
    const name = `${store}/${kind}`;
    tally.operations += 1;
    raise(tally.byStore, store);
    raise(tally.byKind, name);
    if (store === 'postgres') raise(tally.byWay, cell.way);
    this.#tail.push(`#${tally.operations} tenant ${index} (${cell.way}) ${name}: ${verdict}`);
    if (this.#tail.length > 2 * TAIL) this.#tail.splice(0, TAIL);
    if (this.#waiting.length === 0) return;
    const due = this.#waiting.filter(({ at }) => at <= tally.operations);
    for (const waiting of due) {
      this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
      waiting.wake();
    }
  }

  #find({ index, cell }: Subject, { store, kind }: Rule, what: string): string {
    this.tally.wrong += 1;
    if (this.findings.length < 20) this.findings.push({ what, store, way: cell.way, kind, tenant: index });
    this.onFinding();
    return `WRONG: ${what}`;
  }

  #unexpected({ index, cell }: Subject, { store, kind }: Rule, code: string, error: unknown): string {
    this.tally.unexpected += 1;
    const what = `an error that nothing explains: ${code} ${inspect(error)}`;
    if (this.findings.length < 20) this.findings.push({ what, store, way: cell.way, kind, tenant: index });
    this.onFinding();
    return `UNEXPECTED: ${code}`;
  }

  /** All owners that are named in what came back, at any depth. */
  #ownersIn(value: unknown): string[] {
    const owners: string[] = [];
    collect(value, owners);
    this.tally.judged += owners.length;
    return owners;
  }
}

export function raise(counts: Record<string, number>, name: string): void {
  counts[name] = (counts[name] ?? 0) + 1;
}

/** What a process knows of a tenant may be a little older than its suspension's end. */
const isBySuspension = (subject: Subject, code: string, disturbed: boolean): boolean =>
  code === 'TENANT_SUSPENDED' ? subject.suspensions > 0 : disturbed && BY_CUT.test(code);

function collect(value: unknown, owners: string[]): void {
  if (typeof value === 'string') {
    if (value.includes('of:')) for (const [, owner] of value.matchAll(MARK)) if (owner) owners.push(owner);
  } else if (Array.isArray(value)) {
    for (const item of value) collect(item, owners);
  } else if (typeof value === 'object' && value !== null) {
    for (const [name, item] of Object.entries(value)) {
      if (name === 'tenant_id' && typeof item === 'string') owners.push(item);
      else {
        collect(name, owners);
        collect(item, owners);
      }
    }
  }
}

/** A word for an error: of the table (a store's refusal with its reason), an SQLSTATE, or its name. */
export function codeOf(error: unknown): string {
  if (error instanceof TenantryError)
    return error.code === 'STORE_REFUSED' ? `STORE_REFUSED/${error.params['reason'] ?? ''}` : error.code;
  if (error instanceof DatabaseError) return error.code ?? 'no SQLSTATE';
  // By its name alone: what an aborted signal throws may be an Error of another realm.
  return typeof error === 'object' && error !== null && 'name' in error ? String(error.name) : typeof error;
}
