/** A tenant's seat in the client pool: who has a lease on its client, who waits for it, and which seat is to make room. */
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { whenAborted } from '../signal.js';
import type { Login } from './login.js';
import { UnderWay } from './under-way.js';

/** Exists from the tenant's first call until its client is closed. */
export interface Seat {
  readonly tenantId: TenantId;
  state: 'waiting' | 'connecting' | 'ready' | 'retired';
  login: Login | undefined;
  leases: number;
  holds: number;
  /** No other tenant may get its client: something may still be under way on it, or its login was refused. */
  spoilt: boolean;
  readonly underWay: UnderWay;
  readonly callers: Set<Caller>;
  usedAt: number;
  checkedAt: number;
}

export interface Lease {
  readonly login: Login;
  /** Says that the lease is for long, for a cursor or a transaction. Its client is not chosen to make room. */
  hold(): void;
  /** Bounds the time of a driver's call on this lease: STORE_UNAVAILABLE when it has not ended long after it should have. */
  bound<T>(work: Promise<T>): Promise<T>;
  /** Says that the password was refused: the client is given up, and the next one logs in with a fresh password. */
  refuse(): void;
  /** Ends the lease. Further calls do nothing. */
  release(): void;
}

interface Caller {
  resolve(lease: Lease): void;
  reject(error: unknown): void;
}

export const newSeat = (tenantId: TenantId): Seat => ({
  tenantId,
  state: 'waiting',
  login: undefined,
  leases: 0,
  holds: 0,
  spoilt: false,
  underWay: new UnderWay(),
  callers: new Set(),
  usedAt: 0,
  checkedAt: 0,
});

/**
 * Waits for a seat's client.
 * @param onEmpty called when the last caller has gone before the seat had a place
 * @throws TenantryError CLIENTS_EXHAUSTED after `waitMs` without a place; else what the caller is rejected with
 */
export const callIn = (
  seat: Seat,
  waitMs: number,
  signal: AbortSignal | undefined,
  onEmpty: () => void,
): Promise<Lease> =>
  new Promise((resolve, reject) => {
    const giveUp = (error: unknown): void => {
      leave();
      seat.callers.delete(caller);
      if (seat.state === 'waiting' && seat.callers.size === 0) onEmpty();
      reject(error);
    };
    // A seat that is connecting ends by itself, with a reason.
    const timer = setTimeout(() => {
      if (seat.state === 'waiting') giveUp(new TenantryError('CLIENTS_EXHAUSTED', { store: 'MongoDB' }));
    }, waitMs);
    const leave = (): void => {
      clearTimeout(timer);
      stopListening();
    };
    const caller: Caller = {
      resolve(lease) {
        leave();
        resolve(lease);
      },
      reject(error) {
        leave();
        reject(error);
      },
    };
    const stopListening = whenAborted(signal, giveUp);
    seat.callers.add(caller);
  });

/**
 * Chooses the seat that is to make room: the least recently used idle one. If all are at work, the least recently used of those
 * that no cursor or transaction holds. So every tenant gets its turn under load, and an open cursor is not waited for.
 * @param seats the least recently used first
 */
export function chooseVictim(
  seats: Iterable<Seat>,
  isFit: (seat: Seat) => boolean = () => true,
): Seat | undefined {
  let busy: Seat | undefined;
  for (const seat of seats) {
    if (seat.state !== 'ready' || !isFit(seat)) continue;
    // A seat that has just connected has no leases yet, but callers.
    if (seat.leases === 0 && seat.callers.size === 0) return seat;
    if (seat.holds === 0 && seat.leases > 0) busy ??= seat;
  }
  return busy;
}
