/** A way to a server on which each half of a connection ends by itself, and that counts connections as the server sees them. */
import { EventEmitter, on, once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { openInFront } from '../../../support/in-front.js';

export interface CountingProxy {
  readonly url: string;
  /** Of the server, now. */
  connections(): number;
  /** The most that it had at once. */
  peak(): number;
  /** All that it ever had. */
  made(): number;
  /** Connections of clients, now. */
  clients(): number;
  /** When the next message that has this in it is on its way to the server. */
  seen(text: string): Promise<void>;
  /** When the next client's connection has ended. */
  ended(): Promise<unknown>;
  /** The next connection over which this is sent is reset, on either side. */
  resetOn(text: string): void;
  /** Nothing comes from the clients until `release`. */
  hold(): void;
  release(): void;
  /** From now on the server's answers come so many milliseconds later. */
  delayAnswers(ms: number): void;
  /** From now on the server hears that a connection has ended so many milliseconds later. */
  delayEnds(ms: number): void;
  /** From now on nobody hears that the server has hung up. */
  keepEnds(): void;
  /** With nobody on it, its counts, and what it was told. */
  startOver(): void;
  close(): Promise<void>;
}

const AS_USUAL = { endMs: 0, answerMs: 0, endsComeThrough: true, isHeld: false, resetOn: '' };

export async function countingProxy(to: URL): Promise<CountingProxy> {
  const [near, far] = [new Set<Socket>(), new Set<Socket>()];
  const messages = new EventEmitter();
  let way = { ...AS_USUAL };
  let [peak, made] = [0, 0];
  const later = (ms: number, then: () => void): void => {
    if (ms === 0) then();
    else if (ms < Number.POSITIVE_INFINITY) setTimeout(then, ms);
  };
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const upstream = connect({ host: to.hostname, port: Number(to.port), allowHalfOpen: true });
    near.add(client.on('error', () => undefined));
    far.add(upstream.on('error', () => client.destroy()).on('close', () => far.delete(upstream)));
    made++;
    peak = Math.max(peak, far.size);
    client.on('data', (message) => {
      if (way.resetOn !== '' && message.includes(way.resetOn)) {
        way.resetOn = '';
        client.resetAndDestroy();
        upstream.resetAndDestroy();
        return;
      }
      upstream.write(message);
      messages.emit('message', message);
    });
    if (way.isHeld) client.pause();
    client.on('end', () => later(way.endMs, () => upstream.end()));
    client.on('close', () => {
      near.delete(client);
      later(way.endMs, () => upstream.destroy());
      messages.emit('end');
    });
    upstream.on('data', (answer) => later(way.answerMs, () => client.writable && client.write(answer)));
    upstream.on('end', () => {
      if (way.endsComeThrough) client.end();
    });
  });
  const cut = (): void => {
    for (const socket of [...near, ...far]) socket.destroy();
    near.clear();
    far.clear();
  };
  const { url, close } = await openInFront(server, to);
  return {
    url: url.href,
    connections: () => far.size,
    peak: () => peak,
    made: () => made,
    clients: () => near.size,
    async seen(text) {
      for await (const [message] of on(messages, 'message')) if ((message as Buffer).includes(text)) return;
    },
    ended: () => once(messages, 'end'),
    resetOn(text) {
      way.resetOn = text;
    },
    hold() {
      way.isHeld = true;
      for (const client of near) client.pause();
    },
    release() {
      way.isHeld = false;
      for (const client of near) client.resume();
    },
    delayAnswers(ms) {
      way.answerMs = ms;
    },
    delayEnds(ms) {
      way.endMs = ms;
    },
    keepEnds() {
      way.endsComeThrough = false;
    },
    startOver() {
      cut();
      way = { ...AS_USUAL };
      [peak, made] = [0, 0];
    },
    async close() {
      cut();
      await close();
    },
  };
}
