/** Holds an answer against the OpenAPI document of the API that gave it. */
import Ajv2020, { type ValidateFunction } from 'ajv/dist/2020';
import addFormats from 'ajv-formats';
import type { Reply } from './api';

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

/** By their text: all APIs of a test file give the same one, whose schemas are compiled once. */
const documents = new Map<string, Document>();
const compilers = new WeakMap<Document, Ajv2020>();
const validators = new WeakMap<Document, Map<string, ValidateFunction>>();

export async function documentOf(url: string): Promise<Document> {
  const text = await (await fetch(`${url}/openapi.json`)).text();
  const document = documents.get(text) ?? (JSON.parse(text) as Document);
  documents.set(text, document);
  return document;
}

/** Compiles the schema at a place in the document. */
export function schemaAt(document: Document, ...place: string[]): ValidateFunction {
  const pointer = place.map((part) => encodeURIComponent(part.replaceAll('~', '~0').replaceAll('/', '~1')));
  const $ref = `api#/${pointer.join('/')}`;
  const known = validators.get(document) ?? new Map<string, ValidateFunction>();
  validators.set(document, known);
  const validate = known.get($ref) ?? compilerOf(document).compile({ $ref });
  known.set($ref, validate);
  return validate;
}

function compilerOf(document: Document): Ajv2020 {
  const known = compilers.get(document);
  if (known !== undefined) return known;
  const ajv = new Ajv2020({ strict: false, allErrors: true });
  addFormats(ajv);
  ajv.addSchema(document, 'api');
  compilers.set(document, ajv);
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
