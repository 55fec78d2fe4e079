/**
 * What a caller hands over, read once into plain objects: what was looked at is what is sent. Getters, proxies, toBSON
 * and Map answer a single time, and nothing of the caller's is kept that could answer otherwise later.
 */
import { types } from 'node:util';
import { Binary, Decimal128, Double, Int32, Long, MaxKey, MinKey, ObjectId, Timestamp, UUID } from 'mongodb';
import { refused } from './refused.js';

/** `data` is stored as it is; in a `statement` names that begin with $ mean something. */
export type Kind = 'data' | 'statement';

/** MongoDB's own bound is 100 levels; one below it, for the command around the statement. */
const MAX_DEPTH = 99;
/** More values than fit into the 16 MB of a document: an object that holds another many times over ends here. */
const MAX_VALUES = 2_000_000;

/** @throws TenantryError STATEMENT_REFUSED */
export function readOnce(value: unknown, kind: Kind): unknown {
  return read(value, { kind, left: MAX_VALUES }, 0);
}

interface Reading {
  readonly kind: Kind;
  left: number;
}

function read(value: unknown, reading: Reading, depth: number): unknown {
  if (--reading.left < 0) throw refused('it has too many values');
  switch (typeof value) {
    case 'object':
      return value === null ? null : readObject(value, reading, depth);
    case 'function':
    case 'symbol':
      throw refused(`a ${typeof value} is no value`);
    default:
      return value;
  }
}

function readObject(value: object, reading: Reading, depth: number): unknown {
  if (depth > MAX_DEPTH) throw refused('it is nested too deeply');
  if (Array.isArray(value)) return readArray(value, reading, depth);
  const scalar = readScalar(value);
  if (scalar !== undefined) return scalar;
  const { toBSON } = value as { readonly toBSON?: unknown };
  if (typeof toBSON === 'function') return read(toBSON.call(value) as unknown, reading, depth + 1);
  if (types.isMap(value)) return readFields(Map.prototype.entries.call(value), reading, depth);
  if (isNotInBson(value)) throw refused('a value of a kind that BSON has not');
  return readFields(fieldsOf(value), reading, depth);
}

/** Arrays of numbers have a field for each: naming them would cost more memory than the bound on values allows. */
const isNotInBson = (value: object): boolean =>
  types.isSet(value) ||
  types.isBoxedPrimitive(value) ||
  ArrayBuffer.isView(value) ||
  types.isAnyArrayBuffer(value);

/**
 * What an array holds, by position and up to the bound: its own way to be iterated may have no end.
 * @throws TenantryError STATEMENT_REFUSED
 */
export function elementsOf(array: readonly unknown[]): unknown[] {
  const { length } = array;
  if (length > MAX_VALUES) throw refused('it has too many values');
  return Array.from({ length }, (_, position) => array[position]);
}

function* fieldsOf(value: object): Iterable<[string, unknown]> {
  for (const name of Object.keys(value)) yield [name, (value as Record<string, unknown>)[name]];
}

function readArray(value: readonly unknown[], reading: Reading, depth: number): unknown[] {
  const { length } = value;
  // A proxy may claim any length; what is not there costs as much as what is.
  if (length > reading.left) throw refused('it has too many values');
  const copy: unknown[] = [];
  for (let position = 0; position < length; position++) copy.push(read(value[position], reading, depth + 1));
  return copy;
}

function readFields(
  fields: Iterable<[unknown, unknown]>,
  reading: Reading,
  depth: number,
): Record<string, unknown> {
  const copy: Record<string, unknown> = {};
  for (const [name, value] of fields) {
    if (typeof name !== 'string') throw refused('a field whose name is not a string');
    // The first would change the copy's prototype, the second make it pass for a BSON value.
    if (name === '__proto__' || name === '_bsontype') throw refused(`a field named ${name}`);
    if (reading.kind === 'statement' && name.charCodeAt(0) === DOLLAR && runsCode(name))
      throw refused(`${spoken(name)} runs code in the server`);
    copy[name] = read(value, reading, depth + 1);
  }
  return copy;
}

const DOLLAR = 36;
const CODE = new Set(['$where', '$function', '$accumulator']);
/** JavaScript, wherever it may stand, and what servers keep for themselves. */
const runsCode = (name: string): boolean => CODE.has(name) || name.startsWith('$_');
const spoken = (name: string): string => (CODE.has(name) ? name : 'an internal operator');

/**
 * BSON's own values, made anew from their content: an instance may carry methods of the caller's. Undefined for what is
 * none; what only says that it is one (`_bsontype`) has a field of that name, which is refused.
 */
function readScalar(value: object): unknown {
  if (types.isDate(value)) return new Date(Date.prototype.getTime.call(value));
  if (types.isUint8Array(value)) return bytesOf(value);
  if (types.isRegExp(value)) return new RegExp(sourceOf.call(value), flagsOf.call(value));
  // Nearly every object is one of none of these; then one look is enough.
  if (!('_bsontype' in value)) return undefined;
  if (value instanceof ObjectId) return new ObjectId(owned(value.id));
  if (value instanceof Timestamp) return new Timestamp({ t: value.high >>> 0, i: value.low >>> 0 });
  if (value instanceof Long) return longOf(value);
  if (value instanceof Int32) return new Int32(value.value);
  if (value instanceof Double) return new Double(value.value);
  if (value instanceof Decimal128) return new Decimal128(owned(value.bytes));
  if (value instanceof UUID) return new UUID(owned(value.buffer));
  if (value instanceof Binary) {
    const { buffer, position, sub_type: kind } = value;
    return new Binary(owned(buffer).subarray(0, position), kind & 0xff);
  }
  if (value instanceof MinKey) return new MinKey();
  if (value instanceof MaxKey) return new MaxKey();
  // Code runs in the server, a DBRef may name another database; the rest nobody needs.
  throw refused('a BSON value of a kind that is not taken');
}

const longOf = (value: Long): Long => new Long(value.low | 0, value.high | 0, value.unsigned);

/** Bytes of its own for a small value. */
function owned(bytes: unknown): Uint8Array {
  if (!types.isUint8Array(bytes)) throw refused('a BSON value without bytes');
  return Uint8Array.from(bytesOf(bytes));
}

const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;
const bufferOf = getter(typedArray, 'buffer');
const offsetOf = getter(typedArray, 'byteOffset');
const lengthOf = getter(typedArray, 'byteLength');
const sourceOf = getter(RegExp.prototype, 'source') as (this: RegExp) => string;
const flagsOf = getter(RegExp.prototype, 'flags') as (this: RegExp) => string;

/** The same bytes, without a copy of what may be megabytes, and without anything hung onto them. */
function bytesOf(value: Uint8Array): Uint8Array {
  return new Uint8Array(
    bufferOf.call(value) as ArrayBuffer,
    offsetOf.call(value) as number,
    lengthOf.call(value) as number,
  );
}

function getter(prototype: object, name: string): (this: object) => unknown {
  const get = Object.getOwnPropertyDescriptor(prototype, name)?.get;
  if (get === undefined) throw new TypeError(`no getter ${name}`);
  return get;
}
