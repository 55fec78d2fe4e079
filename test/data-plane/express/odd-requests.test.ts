/** Requests that are spelled oddly, or answered before it is known whose they are. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2Server } from 'node:http2';
import express, { type Express, type Request } from 'express';
import {
  claim,
  currentTenant,
  header,
  host,
  path,
  required,
  type Resolver,
  subdomain,
  tenancyProblems,
} from '../../../tenancy/index.js';
import { type TenancyParts, createTenancy } from '../../../tenancy/express/tenancy.js';
import { TenantryError } from '../../../domain/errors.js';
import { exchange } from '../../support/exchange.js';
import type { Row } from '../context/support.js';
import { openProduct, type Product } from './support.js';

let product: Product;
let acme: Row;
let beta: Row;
beforeAll(async () => {
  product = await openProduct();
  ({ acme, beta } = product);
});
afterEach(() => product.settle());
afterAll(() => product.close());

interface Reply {
  readonly status: number;
  readonly body: Record<string, unknown>;
}
type Ask = (target: string, lines?: readonly string[]) => Promise<Reply>;

async function serve(make: (app: Express) => void): Promise<Ask> {
  const app = express();
  make(app);
  const port = await product.listen(createServer(app));
  return async (target, lines = ['Host: h']) => {
    const text = await exchange(
      port,
      `GET ${target} HTTP/1.1\r\n${lines.join('\r\n')}\r\nConnection: close\r\n\r\n`,
    );
    const [head = '', body = ''] = text.split('\r\n\r\n');
    return { status: Number(head.split(' ')[1]), body: parsed(body) };
  };
}

function parsed(body: string): Record<string, unknown> {
  return body.startsWith('{') ? (JSON.parse(body) as Record<string, unknown>) : { text: body };
}

const entering = (...resolve: [Resolver, ...Resolver[]]): Promise<Ask> =>
  serve((app) => {
    app.use(product.tenantry.tenancy({ resolve }));
    app.get('/t/:tenant/tickets', (request, response) => {
      response.json({ slug: currentTenant().slug, route: request.params['tenant'] });
    });
    app.use((request, response) => {
      response.json({ slug: currentTenant().slug, url: request.url });
    });
    app.use(tenancyProblems());
  });
const whose = ({ body }: Reply): unknown => body['slug'] ?? body['code'];

describe('a path', () => {
  const disagreeing = () => ['Host: h', `X-Tenant: ${beta.slug}`];

  test('that Express routes to a tenant says so to the resolver too, or is refused', async () => {
    const ask = await entering(path('/t/', { strip: false }), header('x-tenant'));
    for (const target of [
      `/t/${acme.slug}/tickets`,
      `/T/${acme.slug}/tickets`,
      `http://h/t/${acme.slug}/tickets`,
      `/t\\${acme.slug}/tickets#`,
      `\\t\\${acme.slug}/tickets`,
      `/t\\${acme.slug}/tickets`,
    ]) {
      const reply = await ask(target, disagreeing());
      // What the parser of HTTP does not take at all has no code.
      expect([target, reply.status, whose(reply) ?? 'TENANT_AMBIGUOUS']).toEqual([
        target,
        400,
        'TENANT_AMBIGUOUS',
      ]);
    }
  });

  test('in the absolute form is the same path, stripped or not', async () => {
    const whole = await entering(path('/t/', { strip: false }));
    expect((await whole(`http://h/t/${acme.slug}/tickets`)).body).toEqual({
      slug: acme.slug,
      route: acme.slug,
    });
    const stripping = await entering(path('/t/'));
    expect((await stripping(`http://h/t/${acme.slug}/a/b?c=/t/d`)).body).toEqual({
      slug: acme.slug,
      url: '/a/b?c=/t/d',
    });
    expect((await stripping(`http://h/t/${acme.slug}?c`)).body).toEqual({ slug: acme.slug, url: '/?c' });
  });

  test('outside of the prefix says nothing', async () => {
    const ask = await entering(path('/t/'), header('x-tenant'));
    for (const target of ['/', '/t', '/tickets', '/t/', '/u/t/x', '/?/t/x'])
      expect([target, whose(await ask(target, disagreeing()))]).toEqual([target, beta.slug]);
  });
});

describe('a host', () => {
  const named = () => `${acme.slug}.desk.example`;
  const resolvers = (): [Resolver, Resolver] => [subdomain('desk.example'), header('x-tenant')];
  const withHeader = (...hosts: string[]) => [
    ...hosts.map((name) => `Host: ${name}`),
    `X-Tenant: ${beta.slug}`,
  ];

  test('that is no name of one is an answer, and a wrong one', async () => {
    const ask = await entering(...resolvers());
    const own = await entering(
      host(() => undefined),
      header('x-tenant'),
    );
    for (const name of [
      `${named()}..`,
      `${named()}:123456`,
      `x@${named()}`,
      `${named()},x`,
      `${named()} x`,
      `${named()}/`,
      `a..${named()}`,
      '..',
      'a'.repeat(261),
      '[::1',
      'xn--\u00e9',
    ])
      for (const one of [ask, own])
        expect([name, whose(await one('/', withHeader(name)))]).toEqual([name, 'TENANT_AMBIGUOUS']);
  });

  test('that is somebody else’s, an address or empty says nothing, and another place may', async () => {
    const ask = await entering(...resolvers());
    for (const name of [
      'desk.example',
      'localhost:3000',
      'my_app:3000',
      '10.0.0.7',
      '10.0.0.7:8080',
      '[::1]',
      '[fe80::1]:80',
      '',
    ])
      expect([name, whose(await ask('/', withHeader(name)))]).toEqual([name, beta.slug]);
    expect(whose(await ask('/', [`Host: ${named()}:`]))).toBe(acme.slug);
  });

  test('that is sent twice is refused, the same or not', async () => {
    const ask = await entering(subdomain('desk.example'), header('x-tenant'));
    for (const lines of [
      [`Host: ${named()}`, `Host: ${beta.slug}.desk.example`],
      [`Host: ${named()}`, `hOST: ${named()}`],
    ])
      expect(whose(await ask('/', lines))).toBe('TENANT_NOT_FOUND');
    expect(whose(await ask('/', withHeader('localhost', named())))).toBe('TENANT_AMBIGUOUS');
  });

  test('that is not the one of the request’s target is refused', async () => {
    const ask = await entering(subdomain('desk.example'));
    const others = `${beta.slug}.desk.example`;
    const asked = async (target: string, ...hosts: string[]) =>
      whose(
        await ask(
          target,
          hosts.map((name) => `Host: ${name}`),
        ),
      );
    expect([
      await asked(`http://${named()}/`, named()),
      await asked(`HTTP://${named().toUpperCase()}:80/`, named()),
      await asked(`http://${others}/`, named()),
      await asked(`http://${named()}:80@${others}/`, named()),
      await asked(`http:///`, named()),
    ]).toEqual([acme.slug, acme.slug, 'TENANT_NOT_FOUND', 'TENANT_NOT_FOUND', 'TENANT_NOT_FOUND']);
  });

  test('is HTTP/2’s authority, with which a Host must agree', async () => {
    const found: unknown[] = [];
    const server = createHttp2Server((request, response) => {
      found.push(subdomain('desk.example').find(request as unknown as Request));
      response.end();
    });
    const client = connectHttp2(`http://127.0.0.1:${await product.listen(server)}`);
    product.atEnd(() => client.destroy());
    for (const host of [undefined, named(), `${beta.slug}.desk.example`]) {
      const asked = client.request({ ':authority': named(), ...(host !== undefined && { host }) });
      await once(asked.resume().end(), 'close');
    }
    expect(found).toEqual([`slug:${acme.slug}`, `slug:${acme.slug}`, null]);
  });

  test('that was forwarded twice or as a list lets no other place decide', async () => {
    const ask = await entering(subdomain('desk.example', { trustForwardedHost: true }), header('x-tenant'));
    const forwarded = (...names: string[]) =>
      ask('/', [...withHeader('h'), ...names.map((name) => `X-Forwarded-Host: ${name}`)]);
    for (const names of [[named(), named()], [`${named()}, ${named()}`], ['', named()], [`${named()}..`]])
      expect([names, whose(await forwarded(...names))]).toEqual([names, 'TENANT_AMBIGUOUS']);
    expect(whose(await forwarded('elsewhere.example'))).toBe(beta.slug);
  });
});

test('a claim is that of the token, whatever else the token holds', async () => {
  const auths: Record<string, unknown> = {
    plain: { tenant: acme.slug, payload: { tenant: beta.slug } },
    nested: { sub: 'x', payload: { tenant: beta.slug } },
    both: { tenant: acme.slug, header: {}, token: 't', payload: { tenant: beta.slug } },
    wrapped: { header: { alg: 'ES256' }, payload: { tenant: acme.slug }, token: 'a.b.c' },
  };
  const ask = await serve((app) => {
    app.use((request: Request & { auth?: unknown }, _response, next) => {
      request.auth = auths[request.headers['x-kind'] as string];
      next();
    });
    app.use(product.tenantry.tenancy({ resolve: [claim('tenant')] }));
    app.use((_request, response) => {
      response.json({ slug: currentTenant().slug });
    });
  });
  const of = async (kind: string) => whose(await ask('/', ['Host: h', `X-Kind: ${kind}`]));
  expect([await of('plain'), await of('nested'), await of('both'), await of('wrapped')]).toEqual([
    acme.slug,
    'TENANT_NOT_FOUND',
    acme.slug,
    acme.slug,
  ]);
});

test('a place that must say whose it is lets no other decide where it says nothing', async () => {
  const [optional, must] = [
    await entering(header('x-tenant'), header('x-claim')),
    await entering(header('x-tenant'), required(header('x-claim'))),
  ];
  const lines = ['Host: h', `X-Tenant: ${acme.slug}`];
  expect([
    whose(await optional('/', lines)),
    whose(await must('/', lines)),
    whose(await must('/', [...lines, `X-Claim: ${beta.slug}`])),
    whose(await must('/', [...lines, `X-Claim: ${acme.slug}`])),
  ]).toEqual([acme.slug, 'TENANT_AMBIGUOUS', 'TENANT_AMBIGUOUS', acme.slug]);
});

describe('what is answered while a tenant is looked up', () => {
  const entry = {
    tenantId: 'x',
    slug: 'x',
    cell: 'c',
    plan: 'p',
    state: 'active',
    mode: 'open',
    generation: 1,
  };
  const rejections: unknown[] = [];
  const onRejection = (error: unknown): void => void rejections.push(error);
  beforeEach(() => {
    rejections.length = 0;
    process.on('unhandledRejection', onRejection);
  });
  afterEach(() => {
    process.off('unhandledRejection', onRejection);
  });

  /** Looked up in 150 ms; another middleware does something after 30 ms. */
  async function slowly(
    find: () => unknown,
    meanwhile: (response: express.Response) => void,
  ): Promise<{ reply: Reply; handled: number; passedOn: unknown[] }> {
    let handled = 0;
    const passedOn: unknown[] = [];
    const parts = {
      directory: {
        peek: () => undefined,
        find: async () => {
          await new Promise((done) => setTimeout(done, 150));
          return find();
        },
      },
      admit: () => ({ tenantId: 'x' }),
    } as unknown as TenancyParts;
    const ask = await serve((app) => {
      app.use((_request, response, next) => {
        setTimeout(() => meanwhile(response), 30);
        next();
      });
      app.use(createTenancy(parts, { resolve: [{ source: 'header', find: () => 'slug:x' }] }));
      app.use((_request, response) => {
        handled++;
        response.end('{"handled":true}');
      });
      const problems: express.ErrorRequestHandler = (error, _request, response, next) => {
        passedOn.push(error);
        if (response.headersSent) next(error);
        else response.status(500).json({ code: 'PASSED_ON' });
      };
      app.use(problems);
    });
    const reply = await ask('/');
    await new Promise((done) => setTimeout(done, 250));
    return { reply, handled, passedOn };
  }
  const tooSlow = (response: express.Response): void => void response.status(503).end('{"code":"TOO_SLOW"}');

  test.each([
    ['nobody', () => undefined],
    ['known', () => entry],
    [
      'not to be found out',
      () => {
        throw new TenantryError('CATALOGUE_UNAVAILABLE');
      },
    ],
    [
      'lost to a fault',
      () => {
        throw new Error('a fault');
      },
    ],
  ])('stays the only answer when the tenant is %s', async (_what, find) => {
    const { reply, handled } = await slowly(find, tooSlow);
    expect([reply, handled, rejections]).toEqual([{ status: 503, body: { code: 'TOO_SLOW' } }, 0, []]);
  });

  test('is cut when it was begun and the tenant is refused, and goes on when it is let in', async () => {
    const begin = (response: express.Response): void => {
      response.setHeader('content-length', '16').setHeader('connection', 'close');
      response.flushHeaders();
    };
    const refused = await slowly(() => undefined, begin);
    expect([refused.handled, refused.passedOn, rejections]).toEqual([
      0,
      [expect.objectContaining({ code: 'TENANT_NOT_FOUND' })],
      [],
    ]);
    const letIn = await slowly(() => entry, begin);
    expect([letIn.reply.body, letIn.handled]).toEqual([{ handled: true }, 1]);
  });

  test('is nothing when the client is gone', async () => {
    const { handled } = await slowly(
      () => undefined,
      (response) => response.destroy(),
    );
    expect([handled, rejections]).toEqual([0, []]);
  });
});
