/** A tenant's place in the client pool: who has a lease on it, who waits in it, and which one is to make room. */
import { TenantryError } from '../../domain/errors.js';
import type { TenantId } from '../../domain/ids.js';
import { whenAborted } from '../signal.js';
import type { Login } from './login.js';
import { UnderWay } from './under-way.js';

/** From when it is first wanted until its client is closed. */
export interface Seat {
  readonly tenantId: TenantId;
  state: 'waiting' | 'connecting' | 'ready' | 'retired';
  login: Login | undefined;
  leases: number;
  holds: number;
  /** Something may still be under way on its client, or its login was refused: no other tenant gets that client. */
  spoilt: boolean;
  readonly underWay: UnderWay;
  readonly callers: Set<Caller>;
  usedAt: number;
  checkedAt: number;
}

export interface Lease {
  readonly login: Login;
  /** For long: a cursor or a transaction. Its client is not chosen to make room. */
  hold(): void;
  /** What the driver is asked to do over this lease; STORE_UNAVAILABLE when it has not ended long after it should have. */
  bound<T>(work: Promise<T>): Promise<T>;
  /** Its password was refused: the client is given up, and the next one logs in with a fresh password. */
  refuse(): void;
  /** More than once is as good as once. */
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
 * Waits in a seat for its client. @param onEmpty the last one has left it before it had a place
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
    // One that connects ends by itself, with the reason.
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
 * The idle one that was used longest ago; where each is at work, the one that was, as long as nothing holds it for long:
 * under a crowd everybody's turn comes, and an open cursor is not waited for.
 */
export function chooseVictim(
  seats: Iterable<Seat>,
  isFit: (seat: Seat) => boolean = () => true,
): Seat | undefined {
  let busy: Seat | undefined;
  for (const seat of seats) {
    if (seat.state !== 'ready' || !isFit(seat)) continue;
    // One that has just connected has no leases yet, but callers.
    if (seat.leases === 0 && seat.callers.size === 0) return seat;
    if (seat.holds === 0 && seat.leases > 0) busy ??= seat;
  }
  return busy;
}
