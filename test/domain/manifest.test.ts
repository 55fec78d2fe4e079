/** What is taken as a manifest, and what its order and its footprint are. */
import fc from 'fast-check';
import { defineManifest, mongoFootprint, tablesInOrder } from '../../domain/manifest.js';
import supportDesk from '../../manifest/support-desk.js';
import { manifestWith, validManifest } from './support/manifests.js';

test('the sample is valid, and what defineManifest gives may be given to it again', () => {
  expect(defineManifest(supportDesk)).toEqual(supportDesk);
});

test('defaults are filled in: nothing is nullable, personal or unique unless it says so', () => {
  const { postgres, mongo } = defineManifest(
    manifestWith({
      tables: { a: { columns: { id: { type: 'uuid' } }, primaryKey: ['id'] } },
      collections: { c: { fields: { f: { type: 'int' } }, indexes: [{ fields: ['f'] }] } },
    }),
  );
  expect(postgres.hardened).toBe(false);
  expect(postgres.tables['a']).toEqual({
    columns: { id: { type: 'uuid', nullable: false, personal: false } },
    adopt: false,
    primaryKey: ['id'],
    unique: [],
    indexes: [],
    references: [],
  });
  expect(mongo.collections['c']).toEqual({
    fields: { f: { type: 'int', required: true, personal: false } },
    indexes: [{ fields: ['f'], unique: false }],
  });
});

test('every manifest that is valid by how it was made is taken', () => {
  fc.assert(fc.property(validManifest, (input) => void defineManifest(input)));
});

test('taking a manifest changes nothing in it and leaves nothing out', () => {
  fc.assert(
    fc.property(validManifest, (input) => {
      const before = structuredClone(input);
      const manifest = defineManifest(input);
      expect(input).toEqual(before);
      expect(manifest).toMatchObject(before);
      expect(defineManifest(manifest)).toEqual(manifest);
    }),
  );
});

test('tables are put in an order with each once and behind all that it references', () => {
  fc.assert(
    fc.property(validManifest, (input) => {
      const manifest = defineManifest(input);
      const order = tablesInOrder(manifest).map(([name]) => name);
      expect(order.toSorted()).toEqual(Object.keys(input.postgres.tables).toSorted());
      for (const [name, table] of tablesInOrder(manifest)) {
        expect(table).toBe(manifest.postgres.tables[name]);
        for (const { table: parent } of table.references)
          expect(order.indexOf(parent)).toBeLessThan(order.indexOf(name));
      }
    }),
  );
});

test('a long chain that is declared child first is turned round', () => {
  const names = Array.from({ length: 30 }, (_, i) => `t${i}`);
  const tables = Object.fromEntries(
    names.map((name, i) => [
      name,
      {
        columns: { id: { type: 'uuid' } },
        primaryKey: ['id'],
        references: i + 1 < names.length ? [{ columns: ['id'], table: `t${i + 1}` }] : [],
      },
    ]),
  );
  expect(tablesInOrder(defineManifest(manifestWith({ tables }))).map(([name]) => name)).toEqual(
    names.toReversed(),
  );
});

test('the footprint is what a server counts: each collection, its _id, its indexes, its ttl', () => {
  fc.assert(
    fc.property(validManifest, (input) => {
      const counted = Object.entries(input.mongo.collections).flatMap(([name, spec]) => [
        name,
        `${name}._id_`,
        ...(spec.indexes ?? []).map((index) => `${name}.${index.fields.join('_')}`),
        ...(spec.ttl ? [`${name}.ttl`] : []),
      ]);
      expect(new Set(counted).size).toBe(counted.length);
      expect(mongoFootprint(defineManifest(input))).toBe(counted.length);
    }),
  );
});

test('the footprint of the sample is 6: two collections with their _id, an index and a ttl', () => {
  expect(mongoFootprint(supportDesk)).toBe(6);
});
