/** Errors of statements and transactions that the data plane itself refuses. A reason never holds a value. */
import { TenantryError } from '../../domain/errors.js';

/** A statement that is not sent. */
export const refused = (reason: string): TenantryError =>
  new TenantryError('STATEMENT_REFUSED', { store: 'PostgreSQL', reason });

/** A transaction whose COMMIT the server answered with ROLLBACK. */
export const rolledBack = (): TenantryError =>
  new TenantryError('STORE_REFUSED', {
    store: 'PostgreSQL',
    reason: 'a statement had failed and the transaction was rolled back',
  });
