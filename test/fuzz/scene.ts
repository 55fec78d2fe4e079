/** One turn of an actor in one store: who plays, against whom, and what the seed chose for it. */
import type { Tenant } from '../../tenancy/index.js';
import type { Random } from './random.js';
import { type Attempt, markOf, type Referee, type Rule, type Seen, type Subject } from './referee.js';
import type { Stage } from './stage.js';

export class Scene {
  constructor(
    readonly stage: Stage,
    readonly referee: Referee,
    readonly random: Random,
    readonly subject: Subject,
    /** Whose data are sought. */
    readonly other: Subject,
    readonly tenant: Tenant,
  ) {}

  attempt(rule: Rule, work: () => Promise<Seen>): Promise<Attempt> {
    return this.referee.attempt(this.subject, rule, work);
  }

  /** A value of the tenant's own, with text that would do harm where it is taken for anything but text. */
  value(): string {
    return markOf(this.subject.tenantId, this.random.pick(HOSTILE)(this.other.tenantId));
  }

  /** A signal that is aborted some turns of the event loop from now. */
  abortSoon(): AbortSignal {
    const controller = new AbortController();
    let turns = this.random.below(40);
    const turn = (): void => {
      if (turns-- > 0) setImmediate(turn);
      else controller.abort();
    };
    turn();
    return controller.signal;
  }
}

/** What an aborted signal rejects with. */
export const ABORTED = 'AbortError';

const HOSTILE: readonly ((other: string) => string)[] = [
  () => '',
  (other) => `' OR tenant_id = '${other}'`,
  (other) => `'; SELECT tenantry.enter('${other}'); --`,
  (other) => `\r\nAUTH tenant-${other} x\r\nGET t:{${other}}:session:anchor\r\n`,
  (other) => `{"$ne":"${other}"}`,
  (other) => `${other}\u{1f511}`,
];
