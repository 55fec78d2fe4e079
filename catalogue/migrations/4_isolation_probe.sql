-- Tenants at work are tried against each other by an operation of no tenant's.
ALTER TABLE operation DROP CONSTRAINT operation_kind_check;
ALTER TABLE operation ADD CONSTRAINT operation_kind_check
  CHECK (kind IN ('provision', 'provision-batch', 'isolation-probe'));
