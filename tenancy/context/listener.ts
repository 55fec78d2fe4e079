/**
 * Listens for changes of tenants, on a connection of its own: LISTEN needs one, and does not work behind a pooler in transaction
 * mode. Changes are missed while the connection is away, so each new connection is reported as well.
 */
import { Client } from '../../catalogue/pool.js';

const CHANNEL = 'tenantry_tenant';

export interface ListenerOptions {
  readonly url: string;
  /** How often the server is asked whether it is still there, in milliseconds. That finds a connection that broke silently. */
  readonly heartbeatMs: number;
  /** Gets the tenant's id. */
  readonly onChange: (tenantId: string) => void;
  /** Called whenever it begins to listen: what was read before may have changed unnoticed. */
  readonly onConnected: () => void;
  readonly onLost: (error: unknown) => void;
}

export interface Listener {
  isListening(): boolean;
  /** Resolves when it listens for the first time. */
  readonly ready: Promise<void>;
  close(): Promise<void>;
}

export function listen(options: ListenerOptions): Listener {
  let closed = false;
  let listening = false;
  let current: Client | undefined;
  let pause = FIRST_PAUSE;
  let timer: NodeJS.Timeout | undefined;
  let attempt = Promise.resolve();
  const { promise: ready, resolve: isReady } = withResolvers();

  const connect = async (): Promise<void> => {
    const client = new Client({
      connectionString: options.url,
      application_name: 'tenantry-listener',
      connectionTimeoutMillis: 5_000,
      query_timeout: Math.max(options.heartbeatMs, 1_000),
      keepAlive: true,
    });
    current = client;
    const lost = (error: unknown): void => {
      if (current !== client) return;
      current = undefined;
      listening = false;
      clearTimeout(timer);
      void end(client);
      if (closed) return;
      options.onLost(error);
      timer = setTimeout(() => {
        attempt = connect();
      }, pause).unref();
      pause = Math.min(pause * 2, LAST_PAUSE);
    };
    client.on('error', lost);
    client.on('end', () => lost(new Error('the connection ended')));
    client.on('notification', ({ payload }) => {
      if (payload !== undefined) options.onChange(payload);
    });
    try {
      await client.connect();
      await client.query(`LISTEN ${CHANNEL}`);
      if (current !== client || closed) return;
      listening = true;
      pause = FIRST_PAUSE;
      options.onConnected();
      isReady();
      const beat = (): void => {
        timer = setTimeout(() => void client.query('SELECT').then(beat, lost), options.heartbeatMs).unref();
      };
      beat();
    } catch (error) {
      lost(error);
    }
  };
  attempt = connect();
  return {
    isListening: () => listening,
    ready,
    async close() {
      closed = true;
      clearTimeout(timer);
      // A client that is still connecting cannot be ended: wait until it has connected or failed.
      await attempt;
      const client = current;
      current = undefined;
      listening = false;
      if (client !== undefined) await end(client);
      isReady();
    },
  };
}

/** Ends a client. A broken connection fails to, which does not matter. */
const end = (client: Client): Promise<void> => client.end().catch(() => undefined);

const FIRST_PAUSE = 50;
const LAST_PAUSE = 2_000;

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((resolved) => {
    resolve = resolved;
  });
  return { promise, resolve };
}
