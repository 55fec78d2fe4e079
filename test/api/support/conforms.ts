/** Holds an answer against the OpenAPI document of the API that gave it. */
import Ajv2020, { type ValidateFunction } from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import type { Reply } from './api.js';

export interface Document {
  readonly openapi: string;
  readonly paths: Record<string, Record<string, Operation>>;
  readonly components: { readonly schemas: Record<string, object> };
}

export interface Operation {
  readonly operationId: string;
  readonly requestBody?: {
    readonly content: Record<string, { readonly schema: object; readonly example?: unknown }>;
  };
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: object }[];
  readonly responses: Record<string, { readonly content?: Record<string, { readonly schema: object }> }>;
  readonly security?: readonly object[];
}

/** By its text: all APIs give the same one, whose schemas are compiled once for all test files of a process. */
const KNOWN = Symbol.for('tenantry.test.documents');
const known = ((globalThis as { [KNOWN]?: Known })[KNOWN] ??= {
  documents: new Map(),
  compilers: new WeakMap(),
  validators: new WeakMap(),
});

interface Known {
  readonly documents: Map<string, Document>;
  readonly compilers: WeakMap<Document, Ajv2020>;
  readonly validators: WeakMap<Document, Map<string, ValidateFunction>>;
}

export async function documentOf(url: string): Promise<Document> {
  const text = await (await fetch(`${url}/openapi.json`)).text();
  const document = known.documents.get(text) ?? (JSON.parse(text) as Document);
  known.documents.set(text, document);
  return document;
}

/** Compiles the schema at a place in the document. */
export function schemaAt(document: Document, ...place: string[]): ValidateFunction {
  const pointer = place.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1')));
  const $ref = `api#/${pointer.join('/')}`;
  const validators = known.validators.get(document) ?? new Map<string, ValidateFunction>();
  known.validators.set(document, validators);
  const validate = validators.get($ref) ?? compilerOf(document).compile({ $ref });
  validators.set($ref, validate);
  return validate;
}

function compilerOf(document: Document): Ajv2020 {
  const one = known.compilers.get(document);
  if (one !== undefined) return one;
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema(document, 'api');
  known.compilers.set(document, ajv);
  return ajv;
}

const documentsAt = new Map<string, Document>();

export async function rememberDocument(url: string): Promise<void> {
  documentsAt.set(url, await documentOf(url));
}

/** @throws Error when the document does not know such an answer. */
export function conforms(url: string, method: string, path: string, reply: Reply): void {
  const document = documentsAt.get(url);
  if (document === undefined) throw new Error(`no document of ${url}`);
  const bare = path.split('?', 1)[0] ?? '';
  const template = Object.keys(document.paths)
    .toSorted((a, b) => b.length - a.length)
    .find((one) => new RegExp(`^${one.replace(/\{\w+\}/g, '[^/]+?')}$`).test(bare));
  const verb = method.toLowerCase();
  const operation = template === undefined ? undefined : document.paths[template]?.[verb];
  const type = (reply.headers.get('content-type') ?? '').split(';', 1)[0] ?? '';
  const described = operation?.responses[String(reply.status)];
  // What any address may answer is said once: no such address, no such method.
  if (template === undefined || operation === undefined || described === undefined) {
    const anywhere =
      [404, 405, 401].includes(reply.status) || bare.startsWith('/docs') || operation === undefined;
    if (!anywhere) throw new Error(`${method} ${template} does not document ${reply.status}: ${reply.text}`);
    if (type === 'application/problem+json') check(document, ['components', 'schemas', 'Problem'], reply);
    return;
  }
  if (reply.status === 304) return;
  if (described.content?.[type] === undefined)
    throw new Error(`${method} ${template} does not document ${type} at ${reply.status}`);
  if (!type.endsWith('json')) return;
  check(
    document,
    ['paths', template, verb, 'responses', String(reply.status), 'content', type, 'schema'],
    reply,
  );
}

function check(document: Document, place: string[], reply: Reply): void {
  const validate = schemaAt(document, ...place);
  if (!validate(reply.json))
    throw new Error(`not as documented: ${JSON.stringify(validate.errors)}\n${reply.text.slice(0, 2_000)}`);
}
