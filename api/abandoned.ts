/**
 * Requests whose API died between writing them down and starting their run, or taking them back. Nobody waits for them any
 * more, no admission of theirs would be in time, and they hold a customer's name.
 */
import type { Logger } from 'pino';
import type { Catalogue } from '../catalogue/index.js';

const EVERY_MS = 600_000;
/** Far beyond the time of any request; the longest that is configured may be longer. */
const HOUR_MS = 3_600_000;

/** Forgets them now and from time to time, until `closing`. Every API does so, whoever wrote them down. */
export function forgetAbandoned(
  { requests }: Pick<Catalogue, 'requests'>,
  admissionTimeout: number,
  log: Logger,
  closing: AbortSignal,
): void {
  const age = Math.max(HOUR_MS, 2 * admissionTimeout);
  const forget = (): void => {
    requests.forgetAbandoned(age).then(
      (count) => {
        if (count > 0) log.warn({ count }, 'requests were forgotten that nobody had answered');
      },
      (error: unknown) => log.warn({ err: error }, 'requests that nobody answered are not forgotten yet'),
    );
  };
  forget();
  const timer = setInterval(forget, EVERY_MS).unref();
  closing.addEventListener('abort', () => clearInterval(timer), { once: true });
}
