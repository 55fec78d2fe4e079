/** A log line says what happened and never with which values. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { runInNewContext } from 'node:vm';
import express from 'express';
import type { Logger } from 'pino';
import { logRequests } from '../../api/logging.js';
import { createLogger } from '../../domain/log.js';

interface Line {
  readonly err?: Record<string, unknown>;
  readonly [key: string]: unknown;
}

function collecting(): { log: Logger; lines: Line[] } {
  const lines: Line[] = [];
  const destination = { write: (text: string) => void lines.push(JSON.parse(text) as Line) };
  return { log: createLogger({ level: 'trace', destination }), lines };
}

/** As drivers make them: ioredis hangs the command on it, pg the row, and mongodb the whole answer. */
const LOADED = {
  code: '23505',
  command: { name: 'auth', args: ['tenant', 'hush'] },
  detail: 'Key (email)=(hush) already exists.',
  errorResponse: { hush: true },
  hush: 'hush',
};

test('an error is its type, code, message and stack, and nothing that hangs on it', () => {
  const { log, lines } = collecting();
  log.error({ err: Object.assign(new RangeError('too far'), LOADED) }, 'it failed');
  expect(lines[0]?.err).toEqual({
    type: 'RangeError',
    code: '23505',
    message: 'too far',
    stack: expect.stringContaining('too far') as string,
  });
  expect(JSON.stringify(lines)).not.toContain('hush');
  expect(lines[0]).toMatchObject({ level: 50, msg: 'it failed' });
});

test('its causes are said in the same way, all of them', () => {
  const { log, lines } = collecting();
  const root = Object.assign(new TypeError('root'), LOADED);
  log.error({ err: new Error('top', { cause: new Error('middle', { cause: root }) }), cause: root });
  expect(lines[0]).toMatchObject({
    err: { message: 'top', cause: { message: 'middle', cause: { type: 'TypeError', message: 'root' } } },
    cause: { message: 'root' },
  });
  expect(JSON.stringify(lines)).not.toContain('hush');
});

test('an error of another realm is an error too', () => {
  const { log, lines } = collecting();
  const error: unknown = runInNewContext(
    `Object.assign(new RangeError('far'), { code: 'EPIPE', hush: 'hush' })`,
  );
  log.error({ err: error });
  expect(lines[0]?.err).toMatchObject({ type: 'RangeError', code: 'EPIPE', message: 'far' });
  expect(JSON.stringify(lines)).not.toContain('hush');
});

test('causes that go in a circle come to an end', () => {
  const { log, lines } = collecting();
  const [a, b] = [new Error('a'), new Error('b')];
  a.cause = b;
  b.cause = a;
  log.error({ err: a });
  expect(lines[0]?.err).toMatchObject({ message: 'a', cause: { message: 'b', cause: { message: 'a' } } });
});

test.each([
  ['a text', 'hush', 'string'],
  ['an object', { password: 'hush' }, 'object'],
  ['a list', ['hush'], 'object'],
  ['null', null, 'object'],
  ['a number', 42, 'number'],
])('%s that was thrown is said by its type alone', (_, thrown, type) => {
  const { log, lines } = collecting();
  log.error({ err: thrown });
  log.error({ err: new Error('x', { cause: thrown }) });
  expect([lines[0]?.err, lines[1]?.err?.['cause']]).toEqual([type, type]);
});

test('a code that is no text or number stays out', () => {
  const { log, lines } = collecting();
  log.error({ err: Object.assign(new Error('x'), { code: { hush: 1 } }) });
  expect(lines[0]?.err).not.toHaveProperty('code');
});

test('what is below the level is not written, and silent writes nothing', () => {
  const written: string[] = [];
  const destination = { write: (text: string) => void written.push(text) };
  createLogger({ level: 'warn', destination }).info('quiet');
  createLogger({ level: 'silent', destination }).fatal('quiet');
  createLogger({ level: 'info', name: 'worker', destination }).info('loud');
  expect(written.map((text) => JSON.parse(text) as Line)).toMatchObject([{ name: 'worker', msg: 'loud' }]);
});

test("an error that a request's own logger says is said in the same way", async () => {
  const { log, lines } = collecting();
  const app = express();
  app.use(logRequests(log));
  app.get('/', (request, response) => {
    request.log.error({ err: Object.assign(new RangeError('too far'), LOADED) }, 'INTERNAL');
    request.log.warn({ err: 'hush' });
    response.status(500).end();
  });
  const server = createServer(app).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}/?token=hush`);
  } finally {
    server.close();
    await once(server, 'close');
  }
  expect(lines[0]).toMatchObject({
    msg: 'INTERNAL',
    err: { type: 'RangeError', code: '23505', message: 'too far' },
  });
  expect(JSON.stringify(lines)).not.toContain('hush');
});
