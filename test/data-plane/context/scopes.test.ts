/** Whose a piece of code is: bound to its tenant, or taken out of it, whoever runs it. */
import { newTenantId } from '../../../domain/ids.js';
import {
  bindTenant,
  enterTenant,
  findCurrentTenant,
  outsideTenants,
  type Tenant,
} from '../../../tenancy/context/tenant-context.js';

// The scope knows nothing of a tenant but whose it is.
const tenant = (): Tenant => ({ tenantId: newTenantId() }) as Tenant;
const running = (): string | undefined => findCurrentTenant()?.tenantId;

test('a callback that is bound runs as the tenant where it was bound, whoever calls it', () => {
  const [one, other] = [tenant(), tenant()];
  const bound = enterTenant(one, () => bindTenant(running));
  const ofNobody = bindTenant(running);
  expect(bound()).toBe(one.tenantId);
  enterTenant(other, () => {
    expect([bound(), ofNobody(), running()]).toEqual([one.tenantId, undefined, other.tenantId]);
  });
});

test('what outlives a request is taken out of its tenant, and so is all that it sets off', async () => {
  const one = tenant();
  await enterTenant(one, async () => {
    const later = outsideTenants(
      () => new Promise<string | undefined>((resolve) => setImmediate(() => resolve(running()))),
    );
    expect(outsideTenants(running)).toBeUndefined();
    expect(running()).toBe(one.tenantId);
    expect(await later).toBeUndefined();
  });
});
