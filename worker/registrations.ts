/**
 * What the workers need of Temporal beside a namespace: search attributes and schedules. Each worker brings them up to date
 * at its start, and makes them again if Temporal comes back without them, from a backup or with no data. Otherwise no run
 * could be started, and no isolation probe would be, until a worker is started anew.
 */
import type { Client, Connection } from '@temporalio/client';
import type { Logger } from 'pino';
import { ensureSchedules, makeMissingSchedules, type ScheduleSettings } from './schedules.js';
import { ensureSearchAttributes } from './search-attributes.js';

interface Registering {
  readonly connection: Connection;
  readonly client: Client;
  readonly namespace: string;
  readonly schedules: ScheduleSettings;
}

const EVERY_MS = 60_000;

export async function register({ connection, client, namespace, schedules }: Registering): Promise<void> {
  await ensureSearchAttributes(connection, namespace);
  await ensureSchedules(client, schedules);
}

/** Until `signal` aborts. A Temporal that is away is asked again next time. */
export function keepRegistered(
  { connection, client, namespace, schedules }: Registering,
  log: Logger,
  signal: AbortSignal,
  everyMs = EVERY_MS,
): void {
  const look = async (): Promise<void> => {
    try {
      await ensureSearchAttributes(connection, namespace);
      const made = await makeMissingSchedules(client, schedules);
      if (made.length > 0) log.warn({ schedules: made }, 'Temporal had lost schedules; they were made again');
    } catch (error) {
      log.debug({ err: error }, 'what Temporal has to know could not be looked at');
    }
    if (!signal.aborted) next();
  };
  let timer: NodeJS.Timeout;
  const next = (): void => {
    timer = setTimeout(() => void look(), everyMs).unref();
  };
  next();
  signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
}
