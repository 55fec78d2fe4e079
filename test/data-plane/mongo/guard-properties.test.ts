/** The guard as a function: whatever is hidden wherever is found, what is sent is what was looked at, the rest passes. */
import * as fc from 'fast-check';
import {
  Binary,
  Code,
  DBRef,
  Decimal128,
  type Document,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  ObjectId,
  Timestamp,
  UUID,
} from 'mongodb';
import { createGuard } from '../../../tenancy/mongo/guard.js';
import { OPTIONS } from '../../../tenancy/mongo/options.js';
import { elementsOf } from '../../../tenancy/mongo/read-once.js';

const OWN = 't_own';
const guard = createGuard({ database: OWN, collections: new Set(['transcripts', 'events']) });
const refusal = expect.objectContaining({ code: 'STATEMENT_REFUSED' }) as Error;

const declared = fc.constantFrom('transcripts', 'events');
const foreign = fc.oneof(
  fc.constantFrom<unknown>(
    'users',
    'system.users',
    '__proto__',
    'constructor',
    'toString',
    '',
    '$cmd.aggregate',
    'Events',
  ),
  fc.string().filter((name) => name !== 'transcripts' && name !== 'events'),
  fc.record({ db: fc.constantFrom('t_other', 'admin', 'config', ''), coll: declared }),
  fc.record({ db: fc.constant(OWN), coll: fc.constantFrom('users', '__proto__') }),
  fc.constantFrom<unknown>(null, 1, ['transcripts'], { coll: 'transcripts' }, { db: OWN }),
);
const own = fc.oneof(declared, fc.record({ db: fc.constant(OWN), coll: declared }));

/** A value that means nothing. */
const value = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    fc.string(),
    fc.integer(),
    fc.constantFrom(null, true, 1.5),
    fc.date({ noInvalidDate: true }),
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(fc.stringMatching(/^[a-z]{1,6}$/), tie('value'), { maxKeys: 3 }),
  ),
})).value;
const local = fc.oneof(
  fc.record({ $match: fc.dictionary(fc.stringMatching(/^[a-z]{1,6}$/), value, { maxKeys: 3 }) }),
  fc.record({ $limit: fc.integer({ min: 1 }) }),
  fc.record({ $set: fc.record({ a: value }) }),
  fc.constant({ $group: { _id: '$a', n: { $sum: 1 } } }),
);

/** Pipelines in pipelines, with names out of `source`. */
function pipelines(source: fc.Arbitrary<unknown>, leaf: fc.Arbitrary<Document>): fc.Arbitrary<Document[]> {
  return fc.letrec<{ pipeline: Document[]; stage: Document }>((tie) => ({
    pipeline: fc.array(tie('stage'), { minLength: 1, maxLength: 3 }),
    stage: fc.oneof(
      { maxDepth: 4, depthSize: 'small' },
      leaf,
      fc.record({ $lookup: fc.record({ from: source, pipeline: tie('pipeline'), as: fc.constant('x') }) }),
      fc.record({
        $graphLookup: fc.record({
          from: source,
          startWith: fc.constant('$a'),
          connectFromField: fc.constant('a'),
          connectToField: fc.constant('b'),
          as: fc.constant('x'),
        }),
      }),
      fc.record({ $unionWith: fc.record({ coll: declared, pipeline: tie('pipeline') }) }),
      fc.record({
        $facet: fc.dictionary(fc.stringMatching(/^[a-z]{1,4}$/), tie('pipeline'), { minKeys: 1, maxKeys: 2 }),
      }),
      fc.record({ $merge: fc.record({ into: source, whenMatched: fc.constant([{ $set: { a: 1 } }]) }) }),
      fc.record({ $out: source }),
    ),
  })).pipeline;
}

const bad = fc.oneof(
  foreign.map((from) => ({ $lookup: { from, pipeline: [], as: 'x' } })),
  foreign.map((from) => ({
    $graphLookup: { from, startWith: '$a', connectFromField: 'a', connectToField: 'b', as: 'x' },
  })),
  // There it may have this form.
  foreign.filter((coll) => !isCollOfOwn(coll)).map((coll) => ({ $unionWith: coll })),
  foreign.map((coll) => ({ $unionWith: { coll, pipeline: [] } })),
  foreign.map((into) => ({ $merge: into })),
  foreign.map((into) => ({ $merge: { into } })),
  foreign.map((into) => ({ $out: into })),
  fc.constantFrom<Document>(
    { $currentOp: {} },
    { $where: 'true' },
    { $match: { $expr: { $function: {} } } },
    { $match: { a: [{ $where: 'true' }] } },
    { $group: { _id: null, a: { $accumulator: {} } } },
    { $set: { a: { $_internalJsEmit: {} } } },
    { $merge: { into: 'events', whenMatched: [{ $lookup: { from: 'events' } }] } },
    { $unionWith: { coll: 'events', db: 't_other' } },
    { $lookup: { from: 'events', as: 'x', _internal: 1 } },
    { $match: {}, $currentOp: {} },
    {},
  ),
);

function isCollOfOwn(name: unknown): boolean {
  return JSON.stringify(name) === '{"coll":"transcripts"}';
}

/** Puts a stage somewhere into a pipeline, as deep as it goes on the way that `path` says. */
function hide(pipeline: Document[], stage: Document, path: readonly number[]): Document[] {
  const [step = 0, ...rest] = path;
  const at = step % (pipeline.length + 1);
  const host = pipeline[at];
  const inner = host === undefined ? undefined : innerOf(host);
  if (host === undefined || inner === undefined || rest.length === 0) return pipeline.toSpliced(at, 0, stage);
  return pipeline.with(at, inner.put(hide(inner.pipeline, stage, rest)));
}

function innerOf(
  stage: Document,
): { pipeline: Document[]; put: (pipeline: Document[]) => Document } | undefined {
  for (const name of ['$lookup', '$unionWith']) {
    const spec = stage[name] as { pipeline?: Document[] } | undefined;
    if (spec?.pipeline !== undefined)
      return { pipeline: spec.pipeline, put: (pipeline) => ({ [name]: { ...spec, pipeline } }) };
  }
  const facet = stage['$facet'] as Record<string, Document[]> | undefined;
  const [first] = Object.entries(facet ?? {});
  return first && { pipeline: first[1], put: (pipeline) => ({ $facet: { ...facet, [first[0]]: pipeline } }) };
}

describe('any pipeline', () => {
  it('passes unchanged when it has known stages over declared collections', () => {
    fc.assert(
      fc.property(pipelines(own, local), (pipeline) => {
        expect(guard.pipeline(pipeline)).toEqual(pipeline);
      }),
      { numRuns: 500 },
    );
  });

  it('is refused when something foreign is hidden in it, wherever that is', () => {
    fc.assert(
      fc.property(
        pipelines(own, local),
        bad,
        fc.array(fc.nat({ max: 5 }), { minLength: 1, maxLength: 6 }),
        (pipeline, stage, path) => {
          expect(() => guard.pipeline(hide(pipeline, stage, path))).toThrow(refusal);
        },
      ),
      { numRuns: 1_000 },
    );
  });
});

describe('what a caller hands over', () => {
  it('is read once: an answer that changes later is not sent', () => {
    let asked = 0;
    const stage = {
      get $lookup() {
        asked++;
        return { from: asked === 1 ? 'events' : 'users', pipeline: [], as: 'x' };
      },
    };
    expect(guard.pipeline([stage])).toEqual([{ $lookup: { from: 'events', pipeline: [], as: 'x' } }]);
    expect(asked).toBe(1);
    const turning = new Proxy<Document>(
      { $out: '' },
      { get: (_, name) => (name === '$out' ? (++asked % 2 === 0 ? 'events' : 'users') : undefined) },
    );
    expect(guard.pipeline([turning])).toEqual([{ $out: 'events' }]);
    expect(() => guard.pipeline([turning])).toThrow(refusal);
    const filter = { a: 1 };
    const copy = guard.filter(filter);
    filter.a = 2;
    expect(copy).toEqual({ a: 1 });
  });

  it('is looked at in the form that would be sent: toBSON, Map, null prototypes', () => {
    expect(() => guard.filter({ a: { toBSON: () => ({ $where: 'true' }) } })).toThrow(refusal);
    expect(() => guard.pipeline([{ toBSON: () => ({ $out: 'users' }) }])).toThrow(refusal);
    expect(() => guard.pipeline([new Map([['$out', 'users']])])).toThrow(refusal);
    expect(() => guard.filter(new Map([['$where', 'true']]))).toThrow(refusal);
    expect(guard.filter(new Map([['a', new Map([['b', 1]])]]))).toEqual({ a: { b: 1 } });
    expect(() => guard.filter(Object.assign(Object.create(null) as object, { $where: '1' }))).toThrow(
      refusal,
    );
    expect(() => guard.replacement({ toBSON: () => [{ $set: {} }] })).toThrow(refusal);
    expect(() => guard.replacement({ $set: { a: 1 } })).toThrow(refusal);
    expect(guard.document({ toBSON: () => ({ a: 1 }) })).toEqual({ a: 1 });
    const endless: object = { toBSON: () => endless };
    expect(() => guard.document(endless)).toThrow(refusal);
  });

  it('has no code and nothing that passes for BSON', () => {
    for (const hostile of [
      new Code('true'),
      new DBRef('users', new ObjectId()),
      { _bsontype: 'Code', code: 'true' },
      { _bsontype: 'ObjectId', id: 'x' },
      JSON.parse('{"__proto__": {"$where": "true"}}') as unknown,
      () => true,
      Symbol('s'),
      new Set([1]),
      Object('text'),
    ]) {
      expect(() => guard.filter({ a: hostile })).toThrow(refusal);
      expect(() => guard.document({ a: hostile })).toThrow(refusal);
    }
    const armed = Object.assign(new ObjectId(), { toBSON: () => ({ $where: 'true' }) });
    expect(guard.filter({ a: armed })['a']).not.toHaveProperty('toBSON');
    const bytes = Object.assign(Buffer.from('abc'), { toBSON: () => ({ $where: 'true' }) });
    expect(guard.filter({ a: bytes })['a']).not.toHaveProperty('toBSON');
  });

  it('keeps the values of BSON', () => {
    const document = {
      id: new ObjectId(),
      uuid: new UUID(),
      binary: new Binary(Buffer.from('abc'), 0),
      long: Long.MAX_VALUE,
      int: new Int32(7),
      double: new Double(1),
      decimal: Decimal128.fromString('1.50'),
      timestamp: new Timestamp({ t: 5, i: 6 }),
      min: new MinKey(),
      max: new MaxKey(),
      date: new Date(5),
      pattern: /a+/gi,
      big: 5n,
      nothing: undefined,
      constructor: 'a field may be called so',
    };
    expect(guard.document(document)).toEqual(document);
    expect(guard.document(document)['id']).not.toBe(document.id);
  });

  it('ends: no depth, circle or crowd of values goes on for long', () => {
    const circle: Document = {};
    circle['self'] = circle;
    let bomb: unknown = [];
    for (let i = 0; i < 60; i++) bomb = [bomb, bomb];
    let deep: Document = { $limit: 1 };
    for (let i = 0; i < 200; i++) deep = { $facet: { a: [deep] } };
    const endless = new Proxy([], { get: (_, name) => (name === 'length' ? 2 ** 32 - 1 : 1) });
    expect(() => guard.filter(circle)).toThrow(refusal);
    expect(() => guard.document({ bomb })).toThrow(refusal);
    expect(() => guard.pipeline([deep])).toThrow(refusal);
    expect(() => guard.document({ endless })).toThrow(refusal);
  });

  it('has an end, whatever an array says of how it is iterated', () => {
    const endless = Object.assign([{ a: 1 }], {
      *[Symbol.iterator]() {
        for (;;) yield { a: 1 };
      },
    });
    expect(guard.documents(endless)).toEqual([{ a: 1 }]);
    expect(elementsOf(endless)).toEqual([{ a: 1 }]);
    const claims = new Proxy([], { get: (_, name) => (name === 'length' ? 2 ** 32 - 1 : {}) });
    expect(() => guard.documents(claims)).toThrow(refusal);
  });

  it('has no arrays of numbers and no bare buffers: each element would be a field', () => {
    for (const value of [new Float64Array(30_000_000), new Float32Array(2), new DataView(new ArrayBuffer(2))])
      expect(() => guard.document({ value })).toThrow(refusal);
    expect(() => guard.document({ value: new ArrayBuffer(2) })).toThrow(refusal);
  });

  it('is of the right kind', () => {
    for (const notCollection of [
      'users',
      '__proto__',
      'constructor',
      null,
      ['events'],
      { toString: () => 'events' },
    ])
      expect(() => guard.collection(notCollection)).toThrow(refusal);
    for (const notPipeline of [{ 0: { $limit: 1 }, length: 1 }, '$out', null, [null], ['$out'], [[]]])
      expect(() => guard.pipeline(notPipeline)).toThrow(refusal);
    for (const notUpdate of [
      {},
      { a: 1 },
      { $set: {}, a: 1 },
      null,
      'x',
      [{ $lookup: { from: 'events' } }],
      [{ $out: 'events' }],
    ])
      expect(() => guard.update(notUpdate)).toThrow(refusal);
    for (const notFilter of ['x', [], 5]) expect(() => guard.filter(notFilter)).toThrow(refusal);
    expect(() => guard.documents({ length: 0 })).toThrow(refusal);
    expect(() => guard.field({ toString: () => 'a' })).toThrow(refusal);
  });

  it.each([
    'session',
    'dbName',
    'authdb',
    'db',
    'readConcern',
    'writeConcern',
    'readPreference',
    'bypassDocumentValidation',
    'explain',
    'raw',
    'serializeFunctions',
    'ignoreUndefined',
    'timeoutMode',
    'cursor',
    'out',
    'encryptedFields',
    '__proto__x',
    'constructor',
  ])('has no option %s', (name) => {
    for (const table of Object.values(OPTIONS))
      expect(() => guard.options({ [name]: 1 }, table)).toThrow(refusal);
  });

  it('has options of their kinds, read once and looked through', () => {
    const { find } = OPTIONS;
    expect(guard.options({ limit: 1, sort: { a: 1 }, hint: 'a', comment: 'c' }, find)).toEqual({
      limit: 1,
      sort: { a: 1 },
      hint: 'a',
      comment: 'c',
    });
    for (const options of [
      { limit: '1' },
      { limit: -1 },
      { maxTimeMS: Number.NaN },
      { projection: { a: { $function: {} } } },
      { let: { a: { $function: {} } } },
      { comment: () => 1 },
      { hint: new Code('1') },
      [],
      'x',
    ])
      expect(() => guard.options(options, find)).toThrow(refusal);
  });
});
