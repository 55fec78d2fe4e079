/** Identifiers, branded so that one kind is never passed for another. Pure: safe inside workflows. */
declare const brand: unique symbol;
type Branded<T, B extends string> = T & { readonly [brand]: B };

export type TenantId = Branded<string, 'TenantId'>;
export type OperationId = Branded<string, 'OperationId'>;
export type CellName = Branded<string, 'CellName'>;

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
export const CELL_NAME = /^[a-z][a-z0-9-]{0,30}$/;

export const isUuid = (text: string): boolean => UUID.test(text);

export function tenantId(text: string): TenantId {
  return uuid(text, 'tenant id') as TenantId;
}

export function operationId(text: string): OperationId {
  return uuid(text, 'operation id') as OperationId;
}

export function cellName(text: string): CellName {
  if (!CELL_NAME.test(text)) throw new TypeError('not a cell name');
  return text as CellName;
}

/** Fresh random ids. Never called in a workflow: ids reach one as input. */
export const newTenantId = (): TenantId => globalThis.crypto.randomUUID() as TenantId;
export const newOperationId = (): OperationId => globalThis.crypto.randomUUID() as OperationId;

function uuid(text: string, what: string): string {
  if (!UUID.test(text)) throw new TypeError(`not a ${what}`);
  return text;
}

const BASE32 = '0123456789abcdefghjkmnpqrstvwxyz';

/**
 * All 128 bits of the id in 26 lower-case characters (Crockford's base 32), for names that are limited in
 * length and case-insensitive, such as a MongoDB database's. Nothing is cut off, so two tenants never share one.
 */
export function shortId(id: TenantId): string {
  const hex = id.replaceAll('-', '');
  // Two digits are two characters, then each five (20 bits) are four.
  const head = Number.parseInt(hex.slice(0, 2), 16);
  let text = characterOf(head >> 5) + characterOf(head);
  for (let at = 2; at < hex.length; at += 5) {
    const bits = Number.parseInt(hex.slice(at, at + 5), 16);
    text += characterOf(bits >> 15) + characterOf(bits >> 10) + characterOf(bits >> 5) + characterOf(bits);
  }
  return text;
}

const characterOf = (bits: number): string => BASE32.charAt(bits & 31);
