// What every embedded or borrowed server looks like to the rest of the project.

import type { Found, Source } from './find.js';
import { reasonOf } from './reason.js';
import type { Report } from './report.js';
import type { Supervised } from './supervise.js';

export interface RunningServer {
  /** Connection URL with admin credentials; for Temporal `host:port`. */
  readonly url: string;
  readonly source: Source;
  /** One sentence for people: `PostgreSQL 15.18 (postgres on the PATH, /usr/bin/postgres)`. */
  readonly described: string;
  /** undefined for a server from the environment, and while it is not running. */
  readonly pid: number | undefined;
  /** Gracefully, then SIGKILL after a bound. Twice is as good as once. */
  stop(): Promise<void>;
  /** SIGKILL now; resolves when the process and all its descendants are gone. */
  kill(): Promise<void>;
  /** Starts it again on the same port and data; resolves when it answers. */
  start(): Promise<void>;
  /** SIGSTOP: the server keeps its connections and answers nothing. */
  pause(): void;
  /** SIGCONT. */
  resume(): void;
}

export interface ServerOptions {
  /** The stack's data folder; each server keeps to a folder of its own in it. */
  readonly dataDir: string;
  readonly report: Report;
  /** Read for the PATH, the URLs of existing servers and the cache's place. Default: process.env. */
  readonly env?: NodeJS.ProcessEnv;
  /** Gives up a search, a build or a start that is under way. */
  readonly signal?: AbortSignal;
}

/** A process that was started here, as a server. */
export function startedServer(
  process: Supervised,
  o: { readonly name: string; readonly url: string; readonly found: Found },
): RunningServer {
  return {
    url: o.url,
    source: o.found.source,
    described: `${o.name} ${o.found.version} (${o.found.where})`,
    get pid() {
      return process.pid;
    },
    stop: () => process.stop(),
    kill: () => process.kill(),
    start: () => process.start(),
    pause: () => process.pause(),
    resume: () => process.resume(),
  };
}

/** A server that the environment names. It is asked for its version, used, and left as it is. */
export async function existingServer(o: {
  readonly name: string;
  readonly variable: string;
  readonly url: string;
  /** Answers with the version, or throws when the server cannot be reached. */
  readonly version: (url: string) => Promise<string>;
}): Promise<RunningServer> {
  const answer = async (): Promise<string> => {
    try {
      return await o.version(o.url);
    } catch (cause) {
      throw new Error(
        `${o.variable} names ${withoutPassword(o.url)}, and no ${o.name} answers there: ${reasonOf(cause)}\n` +
          `To mend it: start that server, or run \`unset ${o.variable}\` to have one started for you.`,
        { cause },
      );
    }
  };
  const notOurs = (what: string) =>
    new Error(`${o.name} comes from ${o.variable}: it was not started here, so it is not ${what} here`);
  const version = await answer();
  return {
    url: o.url,
    source: 'environment',
    described: `${o.name} ${version} (${o.variable}, ${withoutPassword(o.url)})`,
    pid: undefined,
    stop: () => Promise.resolve(),
    kill: () => Promise.reject(notOurs('killed')),
    start: async () => {
      await answer();
    },
    pause: () => {
      throw notOurs('paused');
    },
    resume: () => {
      throw notOurs('resumed');
    },
  };
}

/** The URL as it may be printed or logged. */
export function withoutPassword(url: string): string {
  return url.replace(/\/\/([^:@/]*):[^@/]*@/, '//$1:***@');
}
