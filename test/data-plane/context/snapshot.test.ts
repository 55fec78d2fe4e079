/** A context handed on as signed text: what it holds, who may restore it, and that no byte of it can be changed. */
import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { createSigner, type Claims } from '../../../tenancy/context/snapshot.js';
import { newTenantId } from '../../../domain/ids.js';
import { currentTenant, type SigningKey, type SigningKeys, type Tenantry } from '../../../tenancy/index.js';
import { createWorld, type World } from '../../support/world.js';
import { until } from '../../support/until.js';
import { change, codeOf, insertTenant, open, type Row, signingKeys } from './support.js';

const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.';
const claims = (): Claims => ({
  tenant: newTenantId(),
  generation: 3,
  policyVersion: 0,
  keyVersion: 0,
  correlationId: 'c',
  issuedAt: Date.now(),
});

describe('the signed text', () => {
  const signer = createSigner(signingKeys);

  test('gives back what was signed', () => {
    const signed = { ...claims(), principal: 'ada', boundTo: 'x', expiresAt: Date.now() + 1_000 };
    expect(signer.verify('job', signer.sign('job', signed))).toEqual(signed);
  });

  test('is refused with any character altered, added or taken away', () => {
    const text = signer.sign('job', claims());
    // Every place, with its neighbours in the alphabet (which in the last place may spell the same bytes) and at random.
    for (let i = 0; i < text.length; i++) {
      for (const offset of [1, 2, 3, 16, 32]) {
        const other = BASE64URL[(BASE64URL.indexOf(text[i] ?? 'A') + offset) % BASE64URL.length] ?? '';
        expectRefused(text.slice(0, i) + other + text.slice(i + 1));
      }
    }
    fc.assert(
      fc.property(
        fc.nat(text.length - 1),
        fc.integer({ min: 0, max: 2 }),
        fc.string({ minLength: 1, maxLength: 4 }),
        (at, cut, put) => {
          const altered = text.slice(0, at) + put + text.slice(at + cut);
          fc.pre(altered !== text);
          expectRefused(altered);
        },
      ),
      { numRuns: 3_000 },
    );
    fc.assert(fc.property(fc.string({ maxLength: 5_000 }), expectRefused), { numRuns: 500 });
    for (const padding of ['=', '\n', ' ', '.']) expectRefused(text + padding);
  });

  function expectRefused(text: string): void {
    expect(() => signer.verify('job', text)).toThrow(expect.objectContaining({ code: 'CONTEXT_REFUSED' }));
  }

  test('is refused for another purpose, by another key, before it was issued and when it has expired', () => {
    const reason = (work: () => unknown): unknown => {
      try {
        return work();
      } catch (error) {
        return (error as { params: { reason: string } }).params.reason;
      }
    };
    const text = signer.sign('job', { ...claims(), expiresAt: Date.now() + 5_000 });
    expect(reason(() => signer.verify('mail', text))).toBe('its signature is wrong');
    const samesId = createSigner({ sign: { id: 'k1', secret: randomBytes(32) } });
    expect(reason(() => samesId.verify('job', text))).toBe('its signature is wrong');
    const other = createSigner({ sign: { id: 'k2', secret: randomBytes(32) } });
    expect(reason(() => other.verify('job', text))).toBe('its key is not known');
    const late = createSigner(signingKeys, () => Date.now() + 5_001);
    expect(reason(() => late.verify('job', text))).toBe('it has expired');
    const early = createSigner(signingKeys, () => Date.now() - 120_000);
    expect(reason(() => early.verify('job', text))).toBe('it comes from the future');
  });

  test('is refused with an end or a beginning that is no number', () => {
    for (const odd of [{ expiresAt: `${Date.now()}1000` }, { expiresAt: null }, { issuedAt: '1' }])
      expectRefused(signer.sign('job', { ...claims(), ...(odd as unknown as Claims) }));
  });

  test('outlives a rotation of keys for as long as the old one is kept', () => {
    const next = { id: 'k2', secret: randomBytes(32) };
    const old = signer.sign('job', claims());
    const both = createSigner({ sign: next, verify: [signingKeys.sign] });
    expect(both.verify('job', old)).toBeDefined();
    expect(both.verify('job', both.sign('job', claims()))).toBeDefined();
    expect(() => createSigner({ sign: next }).verify('job', old)).toThrow(
      expect.objectContaining({ code: 'CONTEXT_REFUSED' }),
    );
  });

  test('is signed by the keys as they were handed over, whatever becomes of them there', () => {
    const [secret, other] = [randomBytes(32), randomBytes(32)];
    const keys = { sign: { id: 'k1', secret: Buffer.from(secret) }, verify: [] };
    const own = createSigner(keys);
    keys.sign.secret.fill(0);
    keys.sign = { id: 'k2', secret: other };
    const text = own.sign('job', claims());
    for (const one of [own, createSigner({ sign: { id: 'k1', secret } })])
      expect(() => one.verify('job', text)).not.toThrow();
  });

  test('needs keys that are keys', () => {
    expect(() => createSigner({ sign: { id: 'k', secret: randomBytes(16) } })).toThrow(TypeError);
    expect(() => createSigner({ sign: { id: 'a.b', secret: randomBytes(32) } })).toThrow(TypeError);
    expect(() =>
      createSigner({ sign: signingKeys.sign, verify: [{ id: 'k1', secret: randomBytes(32) }] }),
    ).toThrow(TypeError);
  });
});

describe('snapshot and restore', () => {
  let world: World;
  let tenantry: Tenantry;
  beforeAll(async () => {
    world = await createWorld();
    tenantry = open(world);
    await tenantry.listening;
  });
  afterAll(async () => {
    await tenantry.close();
    await world.close();
  });

  const take = (slug: string, options?: Parameters<Tenantry['snapshot']>[0]): Promise<string> =>
    tenantry.runWithTenant(slug, () => tenantry.snapshot(options), {
      principal: { id: 'ada', roles: ['owner-of-everything'] },
      correlationId: 'c-9',
    });

  test('bring back the tenant, who acted and the correlation, in another process too', async () => {
    const { tenantId, slug } = await insertTenant(world);
    const text = await take(slug);
    const elsewhere = open(world);
    const seen = await elsewhere.restore(text, () => currentTenant());
    expect(seen).toMatchObject({ tenantId, slug, correlationId: 'c-9', principal: { id: 'ada' } });
    await elsewhere.close();
  });

  test('hold no names', async () => {
    const { slug } = await insertTenant(world);
    const [, , body = ''] = (await take(slug)).split('.');
    const text = Buffer.from(body, 'base64url').toString();
    expect(text).not.toMatch(new RegExp(`${slug}|owner-of-everything|Acme|team`));
  });

  test('are bound to a purpose and an age', async () => {
    const { slug } = await insertTenant(world);
    const text = await take(slug, { purpose: 'mail-queue', ttlMs: 300 });
    expect(await codeOf(() => tenantry.restore(text, () => 1))).toBe('CONTEXT_REFUSED');
    expect(await codeOf(() => tenantry.restore(text, () => 1, { purpose: 'mail-queue' }))).toEqual({
      came: 1,
    });
    await until(
      'it has expired',
      async () =>
        (await codeOf(() => tenantry.restore(text, () => 1, { purpose: 'mail-queue' }))) ===
        'CONTEXT_REFUSED',
      2_000,
    );
  });

  test('are not taken for a time that is none, such as text from the environment', async () => {
    const { slug } = await insertTenant(world);
    for (const ttlMs of ['1000', Number.NaN, Number.POSITIVE_INFINITY, 0, -1, null])
      await expect(take(slug, { ttlMs: ttlMs as number })).rejects.toThrow(RangeError);
  });

  test('meet the tenant as it is when it is restored', async () => {
    const { tenantId, slug } = await insertTenant(world);
    const text = await take(slug);
    await change(world, tenantId, { state: 'suspended', mode: 'read-only' });
    await until(
      'it is read-only',
      async () => (await tenantry.restore(text, (tenant) => tenant.mode)) === 'read-only',
    );
    for (const [state, code] of [
      ['suspended', 'TENANT_SUSPENDED'],
      ['inactive', 'TENANT_INACTIVE'],
      ['purging', 'TENANT_GONE'],
    ] as const) {
      await change(world, tenantId, { state, mode: 'blocked' });
      await until(
        `it is ${state}`,
        async () => (await codeOf(() => tenantry.restore(text, () => 1))) === code,
        1_000,
      );
    }
  });

  test.each([undefined, null, 5, ['tc1', 'k1'], { split: () => [] }])(
    'are texts, and not %j',
    async (text) => {
      expect(await codeOf(() => tenantry.restore(text as unknown as string, () => 'entered'))).toBe(
        'CONTEXT_REFUSED',
      );
    },
  );

  test('have keys that are replaced under 64 callers: none is refused, and none is taken by a key that was withdrawn', async () => {
    const rows = [await insertTenant(world), await insertTenant(world)];
    const [first, ...later] = Array.from({ length: 3 }, (_, i) => ({ id: `r${i}`, secret: randomBytes(32) }));
    // Two processes, which hear of a change one after the other.
    const held: SigningKeys[] = Array.from({ length: 2 }, () => ({ sign: first as SigningKey }));
    const processes = held.map((_, i) => open(world, { signingKeys: () => held[i] as SigningKeys }));
    const traffic = { runs: true, rounds: Array.from({ length: 64 }, () => 0), last: '' };
    const callers = traffic.rounds.map(async (_, i) => {
      const [from, to] = (i % 2 === 0 ? processes : processes.toReversed()) as [Tenantry, Tenantry];
      const { slug, tenantId } = rows[i % 3 === 0 ? 0 : 1] as Row;
      while (traffic.runs) {
        const text = await from.runWithTenant(slug, () => from.snapshot());
        await new Promise((done) => setImmediate(done));
        expect(await to.restore(text, (tenant) => tenant.tenantId)).toBe(tenantId);
        traffic.last = text;
        traffic.rounds[i] = (traffic.rounds[i] ?? 0) + 1;
      }
    });
    const all = Promise.all(callers);
    const become = async (keys: SigningKeys): Promise<void> => {
      for (const i of held.keys()) {
        held[i] = keys;
        // What was signed before has been restored, and so was something after it.
        const before = [...traffic.rounds];
        const others = until('all go on', () => traffic.rounds.every((n, at) => n > (before[at] ?? 0) + 1));
        await Promise.race([others, all]);
      }
    };
    let sign = first as SigningKey;
    for (const next of later) {
      await become({ sign, verify: [next] });
      await become({ sign: next, verify: [sign] });
      const old = createSigner({ sign }).sign('job:job', { ...claims(), tenant: (rows[0] as Row).tenantId });
      expect(await codeOf(() => processes[0]?.restore(old, () => 1))).toEqual({ came: 1 });
      await become({ sign: next });
      expect(await codeOf(() => processes[0]?.restore(old, () => 1))).toBe('CONTEXT_REFUSED');
      sign = next;
    }
    traffic.runs = false;
    await all;
    expect(traffic.last).toContain(`.${sign.id}.`);
    // One that is none is told to whoever asks, and keeps nothing from going on when it was mended.
    const good = held[0] as SigningKeys;
    held[0] = { sign: { id: 'r9', secret: randomBytes(5) } };
    expect(await codeOf(() => processes[0]?.restore(traffic.last, () => 1))).toBeInstanceOf(TypeError);
    held[0] = good;
    expect(await codeOf(() => processes[0]?.restore(traffic.last, () => 1))).toEqual({ came: 1 });
    await Promise.all(processes.map((one) => one.close()));
  });

  test('need a tenant to be taken, and none or the same to be restored', async () => {
    const [a, b] = [await insertTenant(world), await insertTenant(world)];
    expect(() => tenantry.snapshot()).toThrow(expect.objectContaining({ code: 'NO_TENANT_CONTEXT' }));
    const text = await take(a.slug);
    expect(await codeOf(() => tenantry.runWithTenant(b.slug, () => tenantry.restore(text, () => 1)))).toBe(
      'NESTED_TENANT_CONTEXT',
    );
    expect(await codeOf(() => tenantry.runWithTenant(a.slug, () => tenantry.restore(text, () => 1)))).toEqual(
      { came: 1 },
    );
  });
});
