/** The error of a statement that is not sent. The reason says what kind of thing was refused, never a value of it. */
import { TenantryError } from '../../domain/errors.js';

export const refused = (reason: string): TenantryError =>
  new TenantryError('STATEMENT_REFUSED', { store: 'MongoDB', reason });
