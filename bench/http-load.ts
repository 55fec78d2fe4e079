/* oxlint-disable unicorn/require-post-message-target-origin -- of windows; these are threads */
// Asks a server over and over, in a thread of its own and with as little work as possible: what is measured is the server.

import { once } from 'node:events';
import { connect } from 'node:net';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

export interface Load {
  readonly port: number;
  readonly host: string;
  readonly path: string;
  readonly requests: number;
  readonly connections: number;
  /** Requests that are under way on each. */
  readonly deep: number;
}

export interface LoadThread {
  /** Milliseconds until all were answered with 200. */
  run(load: Load): Promise<number>;
  close(): Promise<void>;
}

export function startLoadThread(): LoadThread {
  const worker = new Worker(__filename);
  return {
    async run(load) {
      worker.postMessage(load);
      const [took] = (await once(worker, 'message')) as [number];
      if (took < 0) throw new Error('the server did not answer every request with 200');
      return took;
    },
    async close() {
      await worker.terminate();
    },
  };
}

if (!isMainThread) {
  parentPort?.on('message', (load: Load) => {
    run(load).then(
      (took) => parentPort?.postMessage(took),
      () => parentPort?.postMessage(-1),
    );
  });
}

async function run({ port, host, path, requests, connections, deep }: Load): Promise<number> {
  const asked = Buffer.from(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`.repeat(deep));
  let left = requests;
  const lane = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', noDelay: true });
      let text = '';
      const next = (): void => {
        left -= deep;
        if (left >= 0) socket.write(asked);
        else socket.end(resolve);
      };
      socket.on('connect', next).on('error', reject);
      socket.setEncoding('latin1').on('data', (piece: string) => {
        text += piece;
        // Each answer ends with its body, a JSON object, and no header holds a brace.
        const answers = text.split('}').length - 1;
        if (answers < deep) return;
        if (text.split('HTTP/1.1 200 ').length - 1 !== deep) socket.destroy(new Error('not a 200'));
        text = '';
        next();
      });
    });
  const begun = process.hrtime.bigint();
  await Promise.all(Array.from({ length: connections }, lane));
  return Number(process.hrtime.bigint() - begun) / 1e6;
}
