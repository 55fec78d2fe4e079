/** The states of a tenant and the table of legal moves between them. */
export const TENANT_STATES = [
  'pending',
  'provisioning',
  'active',
  'inactive',
  'suspended',
  'deprovisioning',
  'failed',
  'purging',
  'deleted',
] as const;

export type TenantState = (typeof TENANT_STATES)[number];

/**
 * From each state, the states that may follow. `deprovisioning` goes back, when cancelled, to the state it came
 * from; `purging` has no way back and `deleted` is a tombstone.
 */
export const LEGAL_MOVES = {
  pending: ['provisioning'],
  provisioning: ['active', 'failed'],
  active: ['suspended', 'inactive', 'deprovisioning'],
  inactive: ['active', 'deprovisioning'],
  suspended: ['active', 'deprovisioning'],
  deprovisioning: ['active', 'inactive', 'suspended', 'purging'],
  failed: ['provisioning', 'purging'],
  purging: ['deleted'],
  deleted: [],
} as const satisfies Record<TenantState, readonly TenantState[]>;

export function mayBecome(from: TenantState, to: TenantState): boolean {
  return (LEGAL_MOVES[from] as readonly TenantState[]).includes(to);
}

/** What the gate in a cell's PostgreSQL lets a tenant's own code do. */
export type GateMode = 'open' | 'read-only' | 'blocked' | 'purging';
