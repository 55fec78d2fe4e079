/** Decides which tenants have a connection of their own: the busiest ones, and never more than `atMost`. */
import type { Lane } from './lane.js';

export interface OwnLanesOptions {
  /** How many there may be, including those that are being closed. */
  readonly atMost: number;
  /** The heat from which a tenant gets one. */
  readonly promoteAt: number;
  open(): Lane;
}

/** A tenant that may have a connection of its own. Only `OwnLanes` changes these fields. */
export interface Owner {
  own: Lane | undefined;
  /** Its recent use: requests, halved every `HALF_LIFE`. */
  heat: number;
  heatAt: number;
  /** The tenant gets none before this time, since its own connection could not be made. */
  coolUntil: number;
  /** It was not busy enough to take another tenant's: checked again at this heat, or at `lookAgainAt`. */
  promoteFrom: number;
  lookAgainAt: number;
}

/** Milliseconds. */
const HALF_LIFE = 7_000;
const COOL_DOWN = 10_000;
const LOOK_AGAIN_AFTER = 100;

export class OwnLanes {
  private readonly owners = new Set<Owner>();
  /** Connections that were given up and are not closed yet. */
  private readonly closing = new Set<Lane>();
  private isClosed = false;
  promotions = 0;
  evictions = 0;
  /** The counts of connections that were given up. */
  readonly gone = { connects: 0, logins: 0 };

  constructor(private readonly options: OwnLanesOptions) {}

  get all(): Lane[] {
    return [...this.owners].flatMap(({ own }) => own ?? []);
  }

  /** Counts a request, which may give the tenant a connection of its own. */
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

  /** For when the tenant's own connection could not be made: it uses the shared ones for a while. */
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

  /** @returns whether there is room now: not before the connection that made room has closed */
  private makeRoom(owner: Owner, now: number): boolean {
    if (this.closing.size > 0 || (owner.heat < owner.promoteFrom && now < owner.lookAgainAt)) return false;
    const coolest = [...this.owners].reduce((a, b) => (heatOf(a, now) <= heatOf(b, now) ? a : b));
    // It must be clearly busier, so that two similar tenants do not take the connection from each other all the time.
    owner.promoteFrom = 2 * heatOf(coolest, now);
    if (owner.heat < owner.promoteFrom) {
      owner.lookAgainAt = now + LOOK_AGAIN_AFTER;
      return false;
    }
    this.evictions += 1;
    this.demote(coolest);
    return this.closing.size === 0;
  }

  /** Gives up the tenant's connection, which closes after the last request on it, or at once when there is none. */
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
