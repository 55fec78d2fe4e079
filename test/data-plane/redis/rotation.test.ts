/** Passwords that are replaced under many callers, as Redis lets a user have two for a while. */
import { createHash } from 'node:crypto';
import { newPassword } from '../../../keys/sealed-secret.js';
import { exchange } from '../../support/exchange.js';
import { until } from '../../support/until.js';
import { type Bench, openBench, scopedOf } from './support.js';

let bench: Bench;
beforeAll(() => {
  bench = openBench();
});
afterAll(() => bench.close());

const hash = (password: string): string => createHash('sha256').update(password).digest('hex');

/** The first word of what the server says. */
const login = async (user: string, password: string): Promise<string | undefined> =>
  (await exchange(Number(new URL(bench.url).port), `AUTH ${user} ${password}\r\nQUIT\r\n`)).split(/\s/)[0];

it.each([
  ['shared', 0],
  ['own', 4],
])(
  'lose none of 64 callers’ requests over %s connections, warm or cold, and are refused once withdrawn',
  async (_, ownConnections) => {
    const tenants = await bench.tenants(4);
    const options = { ownConnections, promoteAt: 5 };
    const warm = bench.source(options);
    for (const tenant of tenants)
      await scopedOf(warm, tenant).namespace('notes').set('whose', tenant.tenantId);
    const traffic = { runs: true, done: 0 };
    const callers = Array.from({ length: 64 }, async (_caller, i) => {
      const tenant = tenants[i % 4] as (typeof tenants)[number];
      while (traffic.runs) {
        // Some have just started, and know no password yet.
        const source = i % 8 === 0 ? bench.source({ ...options, sharedConnections: 1 }) : warm;
        expect(await scopedOf(source, tenant).namespace('notes').get('whose')).toBe(tenant.tenantId);
        if (source !== warm) await source.close();
        traffic.done += 1;
      }
    });
    const all = Promise.all(callers);
    const goesOn = async (): Promise<void> => {
      const enough = traffic.done + 200;
      await Promise.race([all, until('requests go on', () => traffic.done > enough)]);
    };
    for (const isCut of [false, true]) {
      for (const tenant of tenants) {
        const old = tenant.password;
        tenant.password = newPassword();
        await bench.admin.acl('SETUSER', tenant.user, `#${hash(tenant.password)}`);
        await goesOn();
        bench.known.set(tenant.tenantId, tenant.password);
        await goesOn();
        await bench.admin.acl('SETUSER', tenant.user, `!${hash(old)}`);
        if (isCut) await bench.admin.client('KILL', 'USER', tenant.user);
        await goesOn();
        expect([await login(tenant.user, old), await login(tenant.user, tenant.password)]).toEqual([
          '-WRONGPASS',
          '+OK',
        ]);
      }
    }
    traffic.runs = false;
    await all;
  },
);
