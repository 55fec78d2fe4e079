/** The environment: what each variable takes, where secrets come from, and that none is ever shown. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { readConfig, redacted, resolveSecret, VARIABLES, type VariableName } from '../../domain/config.js';
import { TenantryError } from '../../domain/errors.js';
import { anyText } from '../support/any-text.js';

const NAMES = Object.keys(VARIABLES) as VariableName[];
const SECRETS = NAMES.filter((name) => VARIABLES[name][2]);
const secret = 'correct-horse-battery-staple-0123456789';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'tenantry-config-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const file = (name: string, content: string): string => {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
};
const read = (name: VariableName, value: string | undefined): unknown =>
  readConfig([name], { [name]: value })[name];
const messageOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error('nothing was thrown');
};

const TAKEN: [VariableName, string, unknown][] = [
  ['TENANTRY_CATALOGUE_URL', 'postgres://u:p@h:5432/d', 'postgres://u:p@h:5432/d'],
  ['TENANTRY_CATALOGUE_URL', 'postgresql://h/d?sslmode=require', 'postgresql://h/d?sslmode=require'],
  ['TENANTRY_CELL_MONGO_URL', 'mongodb://a:1,b:2/?replicaSet=r', 'mongodb://a:1,b:2/?replicaSet=r'],
  ['TENANTRY_CELL_MONGO_URL', 'mongodb+srv://u:p@h/', 'mongodb+srv://u:p@h/'],
  ['TENANTRY_CELL_REDIS_URL', 'rediss://h:6380', 'rediss://h:6380'],
  ['TENANTRY_CONTROL_DATABASE', `a${'_'.repeat(62)}`, `a${'_'.repeat(62)}`],
  ['TENANTRY_ROLE_PASSWORD_OWNER', 'x'.repeat(16), 'x'.repeat(16)],
  ['TENANTRY_ROOT_KEY', Buffer.alloc(32, 7).toString('base64'), Buffer.alloc(32, 7).toString('base64')],
  ['TENANTRY_CONTEXT_KEY_IDS', '1', [1]],
  ['TENANTRY_CONTEXT_KEY_IDS', '9,10', [9, 10]],
  ['TENANTRY_TEMPORAL_TLS', 'true', true],
  ['TENANTRY_TEMPORAL_TLS', 'false', false],
  ['TENANTRY_API_PORT', '0', 0],
  ['TENANTRY_API_PORT', '65535', 65_535],
  ['TENANTRY_WORKER_ACTIVITIES', '1', 1],
  ['TENANTRY_CELL_MONGO_ENFORCEMENT', 'guard', 'guard'],
  ['TENANTRY_LOG_LEVEL', 'silent', 'silent'],
  ['TENANTRY_CELL_NAME', 'eu-1', 'eu-1'],
  ['TENANTRY_API_TOKEN', 't'.repeat(32), 't'.repeat(32)],
];

test.each(TAKEN)('%s takes "%s"', (name, value, expected) => {
  expect(read(name, value)).toEqual(expected);
});

const REFUSED: [VariableName, string][] = [
  ['TENANTRY_CATALOGUE_URL', 'mysql://h/d'],
  ['TENANTRY_CATALOGUE_URL', 'h:5432/d'],
  ['TENANTRY_CELL_MONGO_URL', 'mongo://h'],
  ['TENANTRY_CELL_REDIS_URL', 'http://h'],
  ['TENANTRY_CELL_DATABASE', 'a"; DROP DATABASE x'],
  ['TENANTRY_CELL_DATABASE', `a${'_'.repeat(63)}`],
  ['TENANTRY_ROLE_PASSWORD_PURGE', 'x'.repeat(15)],
  ['TENANTRY_ROOT_KEY', Buffer.alloc(31).toString('base64')],
  ['TENANTRY_ROOT_KEY', Buffer.alloc(33).toString('base64')],
  ['TENANTRY_ROOT_KEY', 'not base64 but 32 characters !!!'],
  ['TENANTRY_CONTEXT_KEY_IDS', '0'],
  ['TENANTRY_CONTEXT_KEY_IDS', '2,1'],
  ['TENANTRY_CONTEXT_KEY_IDS', '1,2,3'],
  ['TENANTRY_TEMPORAL_TLS', 'yes'],
  ['TENANTRY_API_PORT', '65536'],
  ['TENANTRY_API_PORT', '-1'],
  ['TENANTRY_API_PORT', '80.5'],
  ['TENANTRY_API_PORT', 'http'],
  ['TENANTRY_API_PORT', ' '],
  ['TENANTRY_API_PORT', '0x50'],
  ['TENANTRY_WORKER_ACTIVITIES', '0'],
  ['TENANTRY_WORKER_ACTIVITIES', '1e99'],
  ['TENANTRY_API_BODY_LIMIT', 'Infinity'],
  ['TENANTRY_CELL_MONGO_ENFORCEMENT', 'none'],
  ['TENANTRY_LOG_LEVEL', 'loud'],
  ['TENANTRY_CELL_NAME', 'EU 1'],
  ['TENANTRY_API_TOKEN', 't'.repeat(31)],
];

test.each(REFUSED)('%s refuses "%s" by its name', (name, value) => {
  expect(messageOf(() => read(name, value))).toContain(`  ${name} (${VARIABLES[name][1]}): `);
});

test('what is not set or empty takes its default, or is asked for', () => {
  for (const name of NAMES)
    for (const value of [undefined, '']) {
      const parsed = VARIABLES[name][0].safeParse(undefined);
      if (parsed.success) expect([name, read(name, value)]).toEqual([name, parsed.data]);
      else expect(messageOf(() => read(name, value))).toContain(name);
    }
});

test('every variable at fault is named in one message, and no other', () => {
  fc.assert(
    fc.property(
      fc.subarray(
        SECRETS.filter((name) => name !== 'TENANTRY_TEMPORAL_API_KEY'),
        { minLength: 1 },
      ),
      (names) => {
        const message = messageOf(() => readConfig([...names, 'TENANTRY_API_HOST'], {}));
        const named = message
          .split('\n')
          .slice(1)
          .map((line) => /^ {2}(\w+) \(/.exec(line)?.[1]);
        expect(named).toEqual(names);
      },
    ),
  );
});

test('a refusal never shows the value', () => {
  const value = anyText({ minLength: 6 }).map((text) => `hush-${text}`);
  fc.assert(
    fc.property(fc.constantFrom(...SECRETS), value, (name, text) => {
      let message = '';
      try {
        read(name, text);
      } catch (error) {
        message = (error as Error).message;
      }
      expect(message).not.toContain('hush-');
    }),
  );
});

test('a secret may come as a file; the variable itself goes before it', () => {
  const path = file('token', `${secret}\n`);
  const env = { TENANTRY_API_TOKEN_FILE: path };
  expect(readConfig(['TENANTRY_API_TOKEN'], env).TENANTRY_API_TOKEN).toBe(secret);
  expect(readConfig(['TENANTRY_API_TOKEN'], { ...env, TENANTRY_API_TOKEN: '' }).TENANTRY_API_TOKEN).toBe(
    secret,
  );
  const other = 'o'.repeat(40);
  expect(readConfig(['TENANTRY_API_TOKEN'], { ...env, TENANTRY_API_TOKEN: other }).TENANTRY_API_TOKEN).toBe(
    other,
  );
});

test('a file that cannot be read is a fault of its variable, said together with the others', () => {
  const message = messageOf(() =>
    readConfig(['TENANTRY_API_TOKEN', 'TENANTRY_ROOT_KEY'], {
      TENANTRY_API_TOKEN_FILE: join(directory, 'none'),
    }),
  );
  expect(message).toMatch(/TENANTRY_API_TOKEN \(.*\): .*ENOENT/);
  expect(message).toContain('TENANTRY_ROOT_KEY');
});

test('what is printed has every secret redacted and all else as it is', () => {
  const everything = Object.fromEntries(NAMES.map((name) => [name, `value of ${name}`]));
  const shown = redacted(everything);
  for (const name of NAMES)
    expect([name, shown[name]]).toEqual([name, SECRETS.includes(name) ? '[secret]' : `value of ${name}`]);
});

test('whatever is a password, a token, a key or a URL with a login in it counts as a secret', () => {
  const sounds = NAMES.filter(
    // Of keys, their ids alone.
    (name) => /PASSWORD|TOKEN|KEY(?!_IDS$)|_URL$/.test(name) && name !== 'TENANTRY_TEMPORAL_UI_URL',
  );
  expect(sounds.filter((name) => !SECRETS.includes(name))).toEqual([]);
});

test('a reference leads to a variable, its file, or a file', () => {
  const path = file('password', `  ${secret}\n`);
  expect(resolveSecret('env:EU_URL', { EU_URL: secret })).toBe(secret);
  expect(resolveSecret('env:EU_URL', { EU_URL_FILE: path })).toBe(secret);
  expect(resolveSecret(`file:${path}`, {})).toBe(secret);
});

test.each([
  'env:GONE',
  'env:EMPTY',
  'env:',
  'file:',
  'file:/no/such/file',
  'env:UNREADABLE',
  'vault:x',
  'GONE',
  '',
])('a reference that leads nowhere ("%s") is an error of the table', (reference) => {
  const env = { EMPTY: '', UNREADABLE_FILE: '/no/such/file' };
  expect(() => resolveSecret(reference, env)).toThrow(TenantryError);
  expect(() => resolveSecret(reference, env)).toThrow(expect.objectContaining({ code: 'STORE_REFUSED' }));
});

test('a secret that was put where its reference belongs is not shown', () => {
  for (const misplaced of [`postgres://u:${secret}@h/d`, secret, `${secret}:`])
    expect(messageOf(() => resolveSecret(misplaced, {}))).not.toContain(secret.slice(0, -1));
});
