import { randomUUID } from 'node:crypto';

export const newSlug = (): string => `t-${randomUUID().slice(0, 13)}`;

/** A body that is right, with changes. */
export function tenantBody(changes: object = {}): { slug: string; name: string; plan: string } {
  return { slug: newSlug(), name: 'Acme Support', plan: 'team', ...changes };
}
