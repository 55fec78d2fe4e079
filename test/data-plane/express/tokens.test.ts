/** Claims as the packages that products verify tokens with leave them on a request, whatever stands in the token. */
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import express, { type Request, type RequestHandler } from 'express';
import { expressjwt } from 'express-jwt';
import { jwtVerify, SignJWT } from 'jose';
import { claim, currentTenant, header, required } from '../../../tenancy/index.js';
import { exchange } from '../../support/exchange.js';
import { openProduct, type Product } from './support.js';

let product: Product;
beforeAll(async () => {
  product = await openProduct();
});
afterEach(() => product.settle());
afterAll(() => product.close());

type Authenticated = Request & { auth?: unknown; user?: unknown };
const secret = randomBytes(32);
const verified = (request: Request) =>
  jwtVerify(request.headers.authorization?.slice(7) ?? '', secret, { algorithms: ['HS256'] });

/** The ways in which products put what was verified. */
const MIDDLEWARE: Record<string, RequestHandler> = {
  'express-jwt': expressjwt({ secret, algorithms: ['HS256'] }),
  'express-jwt, optional': expressjwt({ secret, algorithms: ['HS256'], credentialsRequired: false }),
  'jose, all of it': async (request: Authenticated, _response, next) => {
    request.auth = await verified(request);
    next();
  },
  'jose, its claims': async (request: Authenticated, _response, next) => {
    request.auth = (await verified(request)).payload;
    next();
  },
  'jose, its claims copied': async (request: Authenticated, _response, next) => {
    request.auth = Object.assign({}, (await verified(request)).payload);
    next();
  },
};

/** Whose a request is that names beta by a header as well, when that is to be heard; or the code of its refusal. */
async function whoseOf(
  middleware: RequestHandler,
  token: string | undefined,
  named?: string,
): Promise<unknown> {
  const app = express();
  app.use(middleware);
  app.use(
    product.tenantry.tenancy({
      resolve: named === undefined ? [claim('tenant')] : [header('x-tenant'), required(claim('tenant'))],
    }),
  );
  app.use((_request, response) => void response.json({ slug: currentTenant().slug }));
  const port = await product.listen(createServer(app));
  const text = await exchange(
    port,
    ['GET / HTTP/1.1', 'Host: h', 'Connection: close', ...(named === undefined ? [] : [`X-Tenant: ${named}`])]
      .concat(token === undefined ? [] : [`Authorization: Bearer ${token}`])
      .concat('\r\n')
      .join('\r\n'),
  );
  const body = text.slice(text.indexOf('\r\n\r\n') + 4);
  const { slug, code } = body.startsWith('{') ? (JSON.parse(body) as Record<string, unknown>) : {};
  return slug ?? code ?? text.split(' ')[1];
}

const signed = (claims: object): Promise<string> =>
  new SignJWT({ ...claims }).setProtectedHeader({ alg: 'HS256' }).setExpirationTime('1 minute').sign(secret);
/** With claims that no object literal makes. */
const signedText = (text: string): Promise<string> => signed(JSON.parse(text) as object);

test.each(Object.entries(MIDDLEWARE))(
  '%s: the claim is the tenant’s, and no other word of the token is',
  async (_, middleware) => {
    const { acme, beta } = product;
    expect(await whoseOf(middleware, await signed({ tenant: acme.slug }))).toBe(acme.slug);
    expect(await whoseOf(middleware, await signed({ tenant: acme.tenantId }), acme.slug)).toBe(acme.slug);
    expect(await whoseOf(middleware, await signed({ tenant: beta.slug }), acme.slug)).toBe(
      'TENANT_AMBIGUOUS',
    );
    const words = JSON.stringify({ tenant: beta.slug });
    for (const text of [
      '{}',
      `{"tenant":["${beta.slug}"]}`,
      `{"tenant":{"toString":"${beta.slug}"}}`,
      '{"tenant":7}',
      '{"tenant":null}',
      '{"tenant":true}',
      '{"tenant":""}',
      `{"__proto__":${words}}`,
      `{"constructor":{"prototype":${words}}}`,
      `{"payload":${words}}`,
      `{"payload":${words},"header":{},"token":""}`,
      `{"payload":${words},"protectedHeader":{"alg":"HS256"}}`,
      `{"Tenant":"${beta.slug}"}`,
    ])
      expect([text, await whoseOf(middleware, await signedText(text))]).toEqual([text, 'TENANT_NOT_FOUND']);
    // A token without the claim confirms nobody.
    expect(await whoseOf(middleware, await signed({}), acme.slug)).toBe('TENANT_AMBIGUOUS');
  },
);

test('an optional token that is not there is nobody’s, and where it must be there the header alone is not enough', async () => {
  const { acme } = product;
  const optional = MIDDLEWARE['express-jwt, optional'] as RequestHandler;
  expect(await whoseOf(optional, undefined)).toBe('TENANT_NOT_FOUND');
  expect(await whoseOf(optional, undefined, acme.slug)).toBe('TENANT_AMBIGUOUS');
  expect(await whoseOf(optional, 'a.b.c', acme.slug)).toBe('401');
});

test('what is put into the prototype of all objects is no claim', async () => {
  const { acme } = product;
  Reflect.defineProperty(Object.prototype, 'tenant', { value: acme.slug, configurable: true });
  try {
    expect(claim('tenant').find({ auth: { sub: 'ada' } } as unknown as Request)).toBeUndefined();
    expect(
      claim('tenant').find({ auth: { payload: {}, protectedHeader: { alg: 'x' } } } as unknown as Request),
    ).toBeUndefined();
  } finally {
    Reflect.deleteProperty(Object.prototype, 'tenant');
  }
});

test('a claim may stand elsewhere, such as in what passport calls the user', () => {
  const own = claim(
    'tenant',
    (request: Authenticated) => (request.user as { tenant?: unknown } | undefined)?.tenant,
  );
  const { tenantId } = product.acme;
  const of = (user: unknown) => own.find({ user } as unknown as Request);
  expect([of({ tenant: tenantId }), of(undefined), of({}), of({ tenant: [tenantId] })]).toEqual([
    `said:${tenantId}`,
    undefined,
    undefined,
    null,
  ]);
});
