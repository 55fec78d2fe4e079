/** Whose tokens a process hands out, and for how long. */
import { newTenantId } from '../../../domain/ids.js';
import { createTokenSource, signToken } from '../../../tenancy/postgres/token.js';
import { newContextKey } from './support.js';

const key = newContextKey(7);

it('each tenant gets tokens of its own, however many were signed before', () => {
  const tokenOf = createTokenSource({ key: () => key });
  const tenants = Array.from({ length: 50 }, newTenantId);
  for (const tenant of [...tenants, ...tenants]) expect(tokenOf(tenant).slice(0, 36)).toBe(tenant);
  expect(new Set(tenants.map(tokenOf)).size).toBe(tenants.length);
});

it('a rotated key signs from the next token on', () => {
  let signing = key;
  const tokenOf = createTokenSource({ key: () => signing });
  const tenant = newTenantId();
  const before = tokenOf(tenant);
  expect(tokenOf(tenant)).toBe(before);
  signing = newContextKey(8);
  expect(tokenOf(tenant).split('.')[2]).toBe('8');
});

it('tenant, expiry and key are all under the signature', () => {
  const [tenant, other] = [newTenantId(), newTenantId()];
  const expires = new Date('2030-01-01T00:00:00Z');
  const macOf = (token: string): string | undefined => token.split('.')[3];
  const mac = macOf(signToken(tenant, key, expires));
  expect(mac).toMatch(/^[0-9a-f]{64}$/);
  expect(macOf(signToken(other, key, expires))).not.toBe(mac);
  expect(macOf(signToken(tenant, key, new Date('2030-01-01T00:00:01Z')))).not.toBe(mac);
  expect(macOf(signToken(tenant, { ...key, id: 8 }, expires))).not.toBe(mac);
  expect(macOf(signToken(tenant, newContextKey(7), expires))).not.toBe(mac);
});
