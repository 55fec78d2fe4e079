/**
 * The second lock. A statement is copied and looked through, and refused before it is sent if it could leave the tenant's
 * declared collections or run code in the server. The first lock is the server's privileges; in a cell in `guard` mode
 * this is the only one.
 */
import type { Document } from 'mongodb';
import type { OptionKind, OptionTable } from './options.js';
import { elementsOf, readOnce } from './read-once.js';
import { refused } from './refused.js';

/** Each method returns a copy of what the caller gave, to be sent. @throws TenantryError STATEMENT_REFUSED */
export interface Guard {
  collection(name: unknown): string;
  filter(filter: unknown): Document;
  update(update: unknown): Document | Document[];
  /** A document that replaces another as a whole. */
  replacement(document: unknown): Document;
  document(document: unknown): Document;
  documents(documents: unknown): Document[];
  pipeline(pipeline: unknown): Document[];
  field(name: unknown): string;
  /** Only the options of the table; `signal` is read before and left out. */
  options(options: unknown, table: OptionTable): Document;
}

export interface GuardedDatabase {
  readonly database: string;
  readonly collections: ReadonlySet<string>;
}

export function createGuard(own: GuardedDatabase): Guard {
  return {
    collection(name) {
      if (typeof name !== 'string' || !own.collections.has(name)) throw UNDECLARED();
      return name;
    },
    filter: (filter) => plainObject(readOnce(filter ?? {}, 'statement'), 'a filter'),
    update(update) {
      const read = readOnce(update, 'statement');
      if (Array.isArray(read)) {
        checkUpdatePipeline(read);
        return read as Document[];
      }
      const document = plainObject(read, 'an update');
      const operators = Object.keys(document);
      if (operators.length === 0 || !operators.every((name) => name.startsWith('$')))
        throw refused('an update has operators only');
      return document;
    },
    replacement(document) {
      const read = plainObject(readOnce(document, 'data'), 'a document');
      if (Object.keys(read).some((name) => name.startsWith('$')))
        throw refused('a document with an operator in it');
      return read;
    },
    document: (document) => plainObject(readOnce(document, 'data'), 'a document'),
    documents(documents) {
      if (!Array.isArray(documents)) throw refused('documents come in an array');
      return elementsOf(documents).map((document) => this.document(document));
    },
    pipeline(pipeline) {
      const read = readOnce(pipeline, 'statement');
      checkPipeline(read, own);
      return read as Document[];
    },
    field(name) {
      if (typeof name !== 'string') throw refused('the name of a field is a string');
      return name;
    },
    options(options, table) {
      const given = plainObject(options ?? {}, 'options');
      const copy: Document = {};
      for (const name of Object.keys(given)) {
        if (name === 'signal') continue;
        const kind = Object.hasOwn(table, name) ? table[name] : undefined;
        if (kind === undefined) throw refused('an option that is not taken here');
        const value: unknown = given[name];
        if (value !== undefined) copy[name] = optionOf(value, kind);
      }
      return copy;
    },
  };
}

function optionOf(value: unknown, kind: OptionKind): unknown {
  if (kind === 'bson') return readOnce(value, 'statement');
  if (kind === 'number' ? Number.isSafeInteger(value) && (value as number) >= 0 : typeof value === kind)
    return value;
  throw refused(`an option that is not a ${kind}`);
}

/** A function, since an error has the stack of where it was made. */
const UNDECLARED = () => refused('a collection that the manifest does not declare');

function plainObject(value: unknown, what: string): Document {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refused(`${what} is a document`);
  return value;
}

/** Stages that see only the documents that come to them. */
const LOCAL_STAGES = new Set([
  '$addFields',
  '$bucket',
  '$bucketAuto',
  '$count',
  '$densify',
  '$fill',
  '$geoNear',
  '$group',
  '$limit',
  '$match',
  '$project',
  '$redact',
  '$replaceRoot',
  '$replaceWith',
  '$sample',
  '$set',
  '$setWindowFields',
  '$skip',
  '$sort',
  '$sortByCount',
  '$unset',
  '$unwind',
]);
const UPDATE_STAGES = new Set(['$addFields', '$project', '$replaceRoot', '$replaceWith', '$set', '$unset']);

/** Stages that name collections or hold pipelines, each with the check of what it names. Any other stage is refused. */
const STAGES: Readonly<Record<string, (spec: unknown, own: GuardedDatabase) => void>> = {
  $lookup(spec, own) {
    const { from, pipeline } = fields(spec, ['from', 'localField', 'foreignField', 'let', 'pipeline', 'as']);
    checkSource(from, own);
    if (pipeline !== undefined) checkPipeline(pipeline, own);
  },
  $graphLookup(spec, own) {
    const { from } = fields(spec, [
      'from',
      'startWith',
      'connectFromField',
      'connectToField',
      'as',
      'maxDepth',
      'depthField',
      'restrictSearchWithMatch',
    ]);
    checkSource(from, own);
  },
  $unionWith(spec, own) {
    if (typeof spec === 'string') return checkSource(spec, own);
    const { coll, db, pipeline } = fields(spec, ['coll', 'db', 'pipeline']);
    checkSource(db === undefined ? coll : { db, coll }, own);
    if (pipeline !== undefined) checkPipeline(pipeline, own);
  },
  $facet(spec, own) {
    for (const pipeline of Object.values(plainObject(spec, '$facet'))) checkPipeline(pipeline, own);
  },
  $out: (spec, own) => checkSource(spec, own),
  $merge(spec, own) {
    if (typeof spec === 'string') return checkSource(spec, own);
    const { into, whenMatched } = fields(spec, ['into', 'on', 'let', 'whenMatched', 'whenNotMatched']);
    checkSource(into, own);
    if (Array.isArray(whenMatched)) checkUpdatePipeline(whenMatched);
  },
};

function checkPipeline(pipeline: unknown, own: GuardedDatabase): void {
  if (!Array.isArray(pipeline)) throw refused('a pipeline is an array');
  for (const stage of pipeline as unknown[]) {
    const [name, spec] = stageOf(stage);
    if (LOCAL_STAGES.has(name)) continue;
    const check = Object.hasOwn(STAGES, name) ? STAGES[name] : undefined;
    if (check === undefined) throw refused('a stage that is not taken here');
    check(spec, own);
  }
}

function checkUpdatePipeline(pipeline: readonly unknown[]): void {
  for (const stage of pipeline) {
    if (!UPDATE_STAGES.has(stageOf(stage)[0])) throw refused('a stage that is not taken in an update');
  }
}

/** A server may look at the first name alone, so here there has to be exactly one. */
function stageOf(stage: unknown): [name: string, spec: unknown] {
  const entries = Object.entries(plainObject(stage, 'a stage'));
  const [entry] = entries;
  if (entry === undefined || entries.length !== 1) throw refused('a stage has one name');
  return entry;
}

/** `name` or `{db, coll}`. */
function checkSource(source: unknown, own: GuardedDatabase): void {
  if (typeof source === 'string') {
    if (!own.collections.has(source)) throw UNDECLARED();
    return;
  }
  const { db, coll } = fields(source, ['db', 'coll']);
  if (db !== own.database) throw refused('another database');
  if (typeof coll !== 'string' || !own.collections.has(coll)) throw UNDECLARED();
}

/** Unknown fields are refused: in a later server one may name a collection. */
function fields(spec: unknown, known: readonly string[]): Readonly<Record<string, unknown>> {
  const document = plainObject(spec, 'a stage that names a collection');
  for (const name of Object.keys(document))
    if (!known.includes(name)) throw refused('a field that its stage is not known to have');
  return document;
}

/** Whether a pipeline writes, which a read-only tenant may not. For one that the guard has let pass. */
export const writes = (pipeline: readonly Document[]): boolean =>
  pipeline.some((stage) => '$out' in stage || '$merge' in stage);
