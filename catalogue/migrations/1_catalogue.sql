-- The catalogue: which tenants there are, which operations run on them, and what exists for them in each store.
-- Owned by tenantry_owner; the control plane works on it as tenantry_catalogue, which cannot change its shape.

CREATE TABLE cell (
  name               text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9-]{0,30}$'),
  -- Where the servers are: references to secrets (env:NAME, file:/path), never the secrets.
  postgres_owner     text NOT NULL,
  postgres_control   text NOT NULL,
  postgres_runtime   text NOT NULL,
  postgres_purge     text NOT NULL,
  mongo              text NOT NULL,
  redis              text NOT NULL,
  mongo_enforcement  text NOT NULL CHECK (mongo_enforcement IN ('server', 'guard')),
  capacity           integer NOT NULL CHECK (capacity >= 0),
  -- Tenants that take room in it, moved in the transaction that admits or removes one.
  tenants            integer NOT NULL DEFAULT 0 CHECK (tenants >= 0),
  -- The last trial of what the servers enforce, as tried at first contact: {triedAt, refused[], notRefused[]}.
  trial              jsonb,
  prepared_at        timestamptz
);

CREATE TABLE tenant (
  id          uuid PRIMARY KEY,
  slug        text NOT NULL UNIQUE,
  name        text NOT NULL,
  plan        text NOT NULL,
  cell        text NOT NULL REFERENCES cell,
  state       text NOT NULL CHECK (state IN ('pending', 'provisioning', 'active', 'inactive', 'suspended',
                                             'deprovisioning', 'failed', 'purging', 'deleted')),
  -- Raised by each admission: the fencing token of everything that the admitted operation writes.
  generation  bigint NOT NULL CHECK (generation > 0),
  -- A canary of a cell: not a customer, not listed.
  system      boolean NOT NULL DEFAULT false,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tenant_listing ON tenant (created_at, id) WHERE NOT system;
CREATE INDEX tenant_by_cell ON tenant (cell, state);

CREATE TABLE operation (
  id           uuid PRIMARY KEY,
  kind         text NOT NULL CHECK (kind IN ('provision', 'provision-batch')),
  tenant_id    uuid REFERENCES tenant,
  status       text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'cancelled')),
  -- 1, and one more for each retry.
  attempt      integer NOT NULL DEFAULT 1,
  generation   bigint NOT NULL,
  error        jsonb,
  residue      jsonb NOT NULL DEFAULT '[]',
  started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at  timestamptz,
  CHECK ((status = 'running') = (finished_at IS NULL))
);
CREATE INDEX operation_by_tenant ON operation (tenant_id, started_at);
CREATE INDEX operation_running ON operation (started_at) WHERE status = 'running';

CREATE TABLE operation_step (
  operation_id  uuid NOT NULL REFERENCES operation ON DELETE CASCADE,
  name          text NOT NULL,
  status        text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'undone')),
  attempts      integer NOT NULL,
  started_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at   timestamptz,
  last_error    jsonb,
  evidence      jsonb,
  PRIMARY KEY (operation_id, name)
);

-- The ledger: nothing exists in a store that is not here first.
CREATE TABLE allocation (
  tenant_id   uuid NOT NULL REFERENCES tenant,
  store       text NOT NULL CHECK (store IN ('postgres', 'mongo', 'redis')),
  kind        text NOT NULL CHECK (kind IN ('gate', 'database', 'collection', 'role', 'user', 'marker', 'acl-user')),
  name        text NOT NULL,
  state       text NOT NULL CHECK (state IN ('intended', 'created', 'verified', 'released')),
  spec_hash   text NOT NULL,
  generation  bigint NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (tenant_id, store, kind, name)
);

-- Passwords of a tenant's users in the stores, sealed; the key is not in this database.
CREATE TABLE credential (
  tenant_id  uuid NOT NULL REFERENCES tenant,
  store      text NOT NULL CHECK (store IN ('mongo', 'redis')),
  version    integer NOT NULL,
  sealed     bytea NOT NULL,
  PRIMARY KEY (tenant_id, store, version)
);

-- What was asked, kept until it is admitted: personal data stays here and out of workflow histories. A row with
-- an idempotency key stays on as the memory of the first answer.
CREATE TABLE request (
  operation_id     uuid PRIMARY KEY,
  kind             text NOT NULL CHECK (kind IN ('provision', 'provision-batch')),
  tenant_id        uuid,
  body             jsonb NOT NULL,
  idempotency_key  bytea UNIQUE,
  body_hash        bytea NOT NULL,
  -- The refusal, when that was the answer: {code, params}.
  refusal          jsonb,
  created_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX request_age ON request (created_at);

-- Of a batch: what became of each tenant.
CREATE TABLE batch_item (
  operation_id  uuid NOT NULL REFERENCES operation ON DELETE CASCADE,
  ordinal       integer NOT NULL,
  slug          text NOT NULL,
  tenant_id     uuid REFERENCES tenant,
  status        text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed', 'refused', 'cancelled')),
  error         jsonb,
  PRIMARY KEY (operation_id, ordinal)
);

GRANT SELECT, INSERT, UPDATE, DELETE
  ON cell, tenant, operation, operation_step, allocation, credential, request, batch_item TO tenantry_catalogue;
