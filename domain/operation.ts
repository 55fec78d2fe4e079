/** Operations: a change to a tenant, carried out by one workflow. */
export const OPERATION_KINDS = ['provision', 'provision-batch', 'isolation-probe'] as const;
export type OperationKind = (typeof OPERATION_KINDS)[number];

/** `succeeded`, `failed` and `cancelled` are final until a retry. */
export const OPERATION_STATUSES = ['running', 'succeeded', 'failed', 'cancelled'] as const;
export type OperationStatus = (typeof OPERATION_STATUSES)[number];

export const RETRYABLE_STATUSES: readonly OperationStatus[] = ['failed', 'cancelled'];

export const STEP_STATUSES = ['running', 'succeeded', 'failed', 'undone'] as const;
export type StepStatus = (typeof STEP_STATUSES)[number];

export const STORES = ['postgres', 'mongo', 'redis'] as const;
export type StoreName = (typeof STORES)[number];

/** The steps of provisioning and of its undo. */
export type StepName =
  | 'admit'
  | 'postgres'
  | 'mongo'
  | 'redis'
  | 'verify'
  | 'activate'
  | 'undo-redis'
  | 'undo-mongo'
  | 'undo-postgres';

export const ALLOCATION_STATES = ['intended', 'created', 'verified', 'released'] as const;
export type AllocationState = (typeof ALLOCATION_STATES)[number];

export const ALLOCATION_KINDS = [
  'gate',
  'database',
  'collection',
  'role',
  'user',
  'marker',
  'acl-user',
] as const;
export type AllocationKind = (typeof ALLOCATION_KINDS)[number];

/** One resource in a store, as the ledger knows it. */
export interface Allocation {
  readonly store: StoreName;
  readonly kind: AllocationKind;
  readonly name: string;
  readonly state: AllocationState;
  /** SHA-256 (hex) of the specification that it was, or is to be, made from. */
  readonly specHash: string;
  readonly generation: number;
}

/** Something that an undo could not remove; it stays in the ledger until it is gone. */
export interface Residue {
  readonly store: StoreName;
  readonly kind: AllocationKind;
  readonly name: string;
  readonly reason: string;
}
