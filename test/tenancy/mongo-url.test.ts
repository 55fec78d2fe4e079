/** Where a cell's MongoDB is, without who we are there: checked against what the driver itself reads. */
import fc from 'fast-check';
import { MongoClient } from 'mongodb';
import type { Cell } from '../../catalogue/cells.js';
import { connectCell, mongoUrlWithoutCredentials, refuseUnfitUrl } from '../../tenancy/cell-connections.js';
import { anyText } from '../support/any-text.js';

const host = fc.constantFrom('h', 'h:27017', '127.0.0.1:1', 'a:1,b:2,c:3', '[::1]:27017', 'db.example.com');
const rest = fc.constantFrom(
  '',
  '/',
  '/admin',
  '/?replicaSet=rs0',
  '/admin?replicaSet=rs0&authSource=admin&tls=true',
  '/?appName=a%40b%2Fc',
);
const word = anyText({ minLength: 1 }).map(encodeURIComponent);
const hostile = fc.oneof(
  word,
  fc.constantFrom('p@ss/word', 'a/b@c', 'mongodb://x@y/', '@@', '//', '%', '?#[]').map(encodeURIComponent),
);

test('what is left names no user and no password, and the rest is as it was', () => {
  fc.assert(
    fc.property(host, rest, hostile, fc.option(hostile), (hosts, tail, user, password) => {
      const login = password === null ? user : `${user}:${password}`;
      expect(mongoUrlWithoutCredentials(`mongodb://${login}@${hosts}${tail}`)).toBe(
        `mongodb://${hosts}${tail}`,
      );
      expect(mongoUrlWithoutCredentials(`mongodb+srv://${login}@${hosts}${tail}`)).toBe(
        `mongodb+srv://${hosts}${tail}`,
      );
    }),
  );
});

test('an @ behind the host, which the driver takes only behind a login, is encoded', () => {
  const url = mongoUrlWithoutCredentials('mongodb://u:p@h:1/?appName=a@b&replicaSet=r');
  expect(url).toBe('mongodb://h:1/?appName=a%40b&replicaSet=r');
  expect(new MongoClient(url).options).toMatchObject({ appName: 'a@b', replicaSet: 'r' });
});

test('a URL without a login stays as it is', () => {
  fc.assert(
    fc.property(fc.constantFrom('mongodb', 'mongodb+srv'), host, rest, (scheme, hosts, tail) => {
      const url = `${scheme}://${hosts}${tail}`;
      expect(mongoUrlWithoutCredentials(url)).toBe(url);
    }),
  );
});

test('a server behind a load balancer is refused before anything is opened', () => {
  for (const url of ['mongodb://h/?loadBalanced=true', 'mongodb://u:p@h:1/?appName=a&LoadBalanced=true']) {
    const connect = () => connectCell({} as Cell, { resolveSecret: () => url, poolSize: 1 });
    expect(connect).toThrow(expect.objectContaining({ code: 'STORE_REFUSED' }));
  }
  for (const url of ['mongodb://h', 'mongodb://h/?loadBalanced=false', 'mongodb+srv://h.example/'])
    expect(() => refuseUnfitUrl(url)).not.toThrow();
});

test('a URL by which no write is acknowledged is refused, with what to change', () => {
  for (const url of [
    'mongodb://h/?w=0',
    'mongodb://u:p@h:1/?appName=a&W=0',
    'mongodb+srv://h.example/?w=0',
  ]) {
    const connect = () => connectCell({} as Cell, { resolveSecret: () => url, poolSize: 1 });
    expect(connect).toThrow(
      expect.objectContaining({ code: 'STORE_REFUSED', message: expect.stringContaining('w=0') as string }),
    );
  }
  for (const url of ['mongodb://h/?w=1', 'mongodb://h/?w=majority', 'mongodb://h/?journal=true'])
    expect(() => refuseUnfitUrl(url)).not.toThrow();
});

test('taking the login out twice is as once', () => {
  fc.assert(
    fc.property(fc.string(), (text) => {
      const once = mongoUrlWithoutCredentials(`mongodb://u:p@h/${text}`);
      expect(mongoUrlWithoutCredentials(once)).toBe(once);
    }),
  );
});

/** The driver's own reading; undefined when it takes no such URL. */
function readByDriver(url: string) {
  try {
    const { credentials, hosts } = new MongoClient(url).options;
    return { credentials, hosts: hosts.map(String) };
  } catch {
    return undefined;
  }
}

test('of every URL that the driver takes it reads the same hosts afterwards, and nobody to log in as', () => {
  const raw = fc.string({
    unit: fc.constantFrom('a', 'p', '@', '/', ':', '%', '4', '0', '?', '=', '.'),
    maxLength: 14,
  });
  let taken = 0;
  fc.assert(
    fc.property(raw, fc.constantFrom('', 'u:p@', 'u@', 'u:p%40p%2Fp@'), (text, login) => {
      const url = `mongodb://${login}${text}`;
      const before = readByDriver(url);
      if (before === undefined) return;
      taken += 1;
      const after = readByDriver(mongoUrlWithoutCredentials(url));
      expect(after?.hosts).toEqual(before.hosts);
      expect(after?.credentials).toBeUndefined();
    }),
    { numRuns: 2_000 },
  );
  expect(taken).toBeGreaterThan(50);
});
