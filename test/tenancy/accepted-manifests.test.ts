/** What is taken as a manifest the stores take too: tables, collections and probes of random manifests, for real. */
import fc from 'fast-check';
import { randomBytes } from 'node:crypto';
import { MongoClient } from 'mongodb';
import pg from 'pg';
import { defineManifest, type Manifest } from '../../domain/manifest.js';
import { mongoDatabaseName } from '../../domain/names.js';
import { newTenantId } from '../../domain/ids.js';
import { newPassword } from '../../keys/sealed-secret.js';
import { collectionLayouts } from '../../tenancy/mongo/layout.js';
import { probeMongo } from '../../tenancy/mongo/probe.js';
import {
  dropTenantDatabase,
  ensureTenantDatabase,
  inspectTenantDatabase,
} from '../../tenancy/mongo/tenant-database.js';
import { setGates } from '../../tenancy/postgres/gate.js';
import { probePostgres } from '../../tenancy/postgres/probe.js';
import { ensureProductSchema } from '../../tenancy/postgres/product-schema.js';
import { manifestWith, validManifest } from '../domain/support/manifests.js';
import { createWorld, type World } from '../support/world.js';

let world: World;
let mongo: MongoClient;
let owner: pg.Client;
let control: pg.Pool;
let runtime: pg.Pool;
beforeAll(async () => {
  world = await createWorld({ prepare: false });
  mongo = new MongoClient(world.stack.mongoUrl);
  owner = new pg.Client({ connectionString: world.url('cell', 'owner') });
  await owner.connect();
  control = new pg.Pool({ connectionString: world.url('cell', 'catalogue'), max: 1 });
  runtime = new pg.Pool({ connectionString: world.url('cell', 'runtime'), max: 1 });
});
afterAll(async () => {
  await Promise.all([mongo?.close(), owner?.end(), control?.end(), runtime?.end()]);
  await world?.close();
});

/** In a schema of its own, for the tables of one manifest are not those of the next. */
async function tryOut(manifest: Manifest): Promise<void> {
  const schema = `s_${randomBytes(6).toString('hex')}`;
  const own: Manifest = { ...manifest, postgres: { ...manifest.postgres, schema } };
  const tenantId = newTenantId();
  const tables = Object.keys(manifest.postgres.tables);
  expect((await ensureProductSchema(owner, own)).created.toSorted()).toEqual(tables.toSorted());
  expect((await ensureProductSchema(owner, own)).created).toEqual([]);
  await setGates(control, [{ tenantId, generation: 1 }], 'open');
  const evidence = await probePostgres(runtime, own, tenantId, undefined);
  expect(evidence.wroteAndRead.toSorted()).toEqual(tables.toSorted());
  await owner.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);

  const database = { tenantId, layouts: collectionLayouts(manifest) };
  try {
    // Twice, as a retry does.
    await ensureTenantDatabase(mongo, database, newPassword());
    await ensureTenantDatabase(mongo, database, newPassword());
    expect(await inspectTenantDatabase(mongo, database)).toBeUndefined();
    const probed = await probeMongo(manifest, { tenantId, client: mongo }, undefined);
    expect(probed.wroteAndRead).toEqual(Object.keys(manifest.mongo.collections));
  } finally {
    await dropTenantDatabase(mongo, database);
  }
  expect(await mongo.db(mongoDatabaseName(tenantId)).listCollections().toArray()).toEqual([]);
}

test('the stores take every manifest that is taken', async () => {
  await fc.assert(
    fc.asyncProperty(validManifest, (input) => tryOut(defineManifest(input))),
    {
      numRuns: 25,
      endOnFailure: true,
    },
  );
});

test('the stores take a manifest at its limits', async () => {
  const wide = (count: number, type: string) =>
    Object.fromEntries(Array.from({ length: count }, (_, i) => [`f${i}`, { type }]));
  const columns = wide(31, 'integer');
  const fields = wide(63, 'int');
  await tryOut(
    defineManifest(
      manifestWith({
        tables: {
          wide: { columns, primaryKey: Object.keys(columns) },
          child: {
            columns,
            primaryKey: Object.keys(columns),
            references: [{ columns: Object.keys(columns), table: 'wide' }],
          },
          many: { columns: wide(1_599, 'boolean'), primaryKey: ['f0'] },
        },
        collections: {
          indexed: {
            fields: { ...fields, at: { type: 'date' } },
            indexes: [
              { fields: Object.keys(fields).slice(0, 32) },
              ...Object.keys(fields)
                .slice(1, 62)
                .map((field) => ({ fields: [field] })),
            ],
            ttl: { field: 'at', seconds: 2 ** 31 - 1 },
          },
          loose: { fields: { note: { type: 'string', required: false } } },
          empty: { fields: {} },
        },
      }),
    ),
  );
});
