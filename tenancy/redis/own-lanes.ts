/** Which tenants have a connection of their own: those that are busiest now, never more than a given number. */
import type { Lane } from './lane.js';

export interface OwnLanesOptions {
  /** Those on their way out included. */
  readonly atMost: number;
  /** The heat that earns a tenant one. */
  readonly promoteAt: number;
  open(): Lane;
}

/** Who may have one. Its state is kept and changed here. */
export interface Owner {
  own: Lane | undefined;
  /** Its recent use: requests, halved every `HALF_LIFE`. */
  heat: number;
  heatAt: number;
  /** No promotion before: its own connection could not be made. */
  coolUntil: number;
  /** Not busy enough to take one from another: looked at again when it has this heat, or then. */
  promoteFrom: number;
  lookAgainAt: number;
}

/** Milliseconds. */
const HALF_LIFE = 7_000;
const COOL_DOWN = 10_000;
const LOOK_AGAIN_AFTER = 100;

export class OwnLanes {
  private readonly owners = new Set<Owner>();
  /** Given up, and not closed yet. */
  private readonly closing = new Set<Lane>();
  private isClosed = false;
  promotions = 0;
  evictions = 0;
  /** Of those that have been given up. */
  readonly gone = { connects: 0, logins: 0 };

  constructor(private readonly options: OwnLanesOptions) {}

  get all(): Lane[] {
    return [...this.owners].flatMap(({ own }) => own ?? []);
  }

  /** A request more: it may earn one. */
  noteRequest(owner: Owner): void {
    const { atMost, promoteAt } = this.options;
    const now = performance.now();
    owner.heat = heatOf(owner, now) + 1;
    owner.heatAt = now;
    if (owner.own !== undefined || owner.heat < promoteAt || now < owner.coolUntil || atMost < 1) return;
    if (this.owners.size + this.closing.size >= atMost && !this.makeRoom(owner, now)) return;
    owner.own = this.options.open();
    this.owners.add(owner);
    this.promotions += 1;
  }

  /** Its own could not be made: it does without for a while. */
  refuse(owner: Owner): void {
    owner.coolUntil = performance.now() + COOL_DOWN;
    this.demote(owner);
  }

  checkTime(now: number): void {
    for (const { own } of this.owners) own?.checkTime(now);
  }

  close(): void {
    this.isClosed = true;
    for (const { own } of this.owners) own?.close();
  }

  /** @returns whether there is room now; until a connection that gave way has closed, one more would be one too many */
  private makeRoom(owner: Owner, now: number): boolean {
    if (this.closing.size > 0 || (owner.heat < owner.promoteFrom && now < owner.lookAgainAt)) return false;
    const coolest = [...this.owners].reduce((a, b) => (heatOf(a, now) <= heatOf(b, now) ? a : b));
    // Clearly busier, so that two of a kind do not take it from each other all the time.
    owner.promoteFrom = 2 * heatOf(coolest, now);
    if (owner.heat < owner.promoteFrom) {
      owner.lookAgainAt = now + LOOK_AGAIN_AFTER;
      return false;
    }
    this.evictions += 1;
    this.demote(coolest);
    return this.closing.size === 0;
  }

  /** Its requests end where they are; the connection closes behind the last of them, at once when there is none. */
  private demote(owner: Owner): void {
    const lane = owner.own;
    if (lane === undefined) return;
    owner.own = undefined;
    this.owners.delete(owner);
    this.gone.connects += lane.connects;
    this.gone.logins += lane.logins;
    this.closing.add(lane);
    const closeWhenIdle = (): void => {
      lane.checkTime(performance.now());
      if (!lane.isIdle && !this.isClosed) return void setTimeout(closeWhenIdle, 20);
      lane.close();
      this.closing.delete(lane);
    };
    if (lane.isIdle) closeWhenIdle();
    else setImmediate(closeWhenIdle);
  }
}

const heatOf = ({ heat, heatAt }: Owner, now: number): number => heat * 2 ** ((heatAt - now) / HALF_LIFE);
