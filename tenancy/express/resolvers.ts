/**
 * Where a request says whose it is. Each resolver finds a tenant's slug or id in one place, or nothing; what it finds may
 * be anybody's word, and is looked up before it counts.
 */
import { domainToASCII } from 'node:url';
import type { Request } from 'express';
import { keyOf, slugKey, type TenantKey } from '../context/directory.js';

export interface Resolver {
  /** Named in the answer when two places disagree. */
  readonly source: string;
  /**
   * `null` where the place names something that can be no tenant's: that is an answer, and a wrong one. `undefined` where
   * it names nothing.
   */
  find(request: Request): TenantKey | null | undefined;
  /** Done when the request has entered its tenant. */
  entered?(request: Request): void;
}

export interface HostOptions {
  /**
   * Whether the proxy in front sets X-Forwarded-Host and lets no client's through. Anyone can send one: without such a
   * proxy it must stay false, as it is by default.
   */
  readonly trustForwardedHost?: boolean;
}

/** `acme.example.com` with the base `example.com`. Deeper names are nobody's; other hosts say nothing. */
export function subdomain(
  base: string,
  options: HostOptions & { readonly ignore?: readonly string[] } = {},
): Resolver {
  const suffix = `.${normaliseHost(base) ?? ''}`;
  const ignored = new Set(options.ignore ?? ['www']);
  return {
    source: 'subdomain',
    find(request) {
      const host = hostOf(request, options);
      if (host === undefined || !host.endsWith(suffix)) return undefined;
      const label = host.slice(0, -suffix.length);
      return ignored.has(label) ? undefined : (slugKey(label) ?? null);
    },
  };
}

/** Hosts of the customers' own: the product knows whose each is. The host comes normalised. */
export function host(whose: (host: string) => string | undefined, options: HostOptions = {}): Resolver {
  return {
    source: 'host',
    find(request) {
      const name = hostOf(request, options);
      return name === undefined ? undefined : found(whose(name));
    },
  };
}

/**
 * `/t/acme/tickets` with the prefix `/t/`. Stripped, what comes after sees `/tickets`.
 * A segment that is not spelled as a slug is (escaped, in capitals) is nobody's.
 */
export function path(prefix: string, { strip = true }: { readonly strip?: boolean } = {}): Resolver {
  if (!/^\/(.*\/)?$/.test(prefix)) throw new TypeError('a prefix begins and ends with /');
  const segmentOf = (request: Request): string | undefined => {
    if (!request.url.startsWith(prefix)) return undefined;
    const end = request.url.slice(prefix.length).search(/[/?]/);
    return end === -1
      ? request.url.slice(prefix.length)
      : request.url.slice(prefix.length, prefix.length + end);
  };
  return {
    source: 'path',
    find(request) {
      const segment = segmentOf(request);
      return segment === undefined || segment === '' ? undefined : found(segment);
    },
    ...(strip
      ? {
          entered(request: Request) {
            const segment = segmentOf(request);
            if (segment === undefined) return;
            const rest = request.url.slice(prefix.length + segment.length);
            request.url = rest.startsWith('/') ? rest : `/${rest}`;
          },
        }
      : {}),
  };
}

/** A header that names the tenant. Sent twice, it is nobody's. */
export function header(name: string): Resolver {
  const key = name.toLowerCase();
  return {
    source: `header ${key}`,
    find(request) {
      const value = request.headers[key];
      return found(typeof value === 'string' ? value.trim() : value?.join());
    },
  };
}

/**
 * A claim of a token that the product has verified: of `request.auth`, where the usual middleware for JWTs puts the claims,
 * or wherever `read` finds it. Tokens are not read here, so none is ever believed unverified.
 */
export function claim(
  name: string,
  read: (request: Request) => unknown = (request) => authClaim(request, name),
): Resolver {
  return {
    source: `claim ${name}`,
    find(request) {
      const value = read(request);
      if (value === undefined) return undefined;
      return typeof value === 'string' ? found(value) : null;
    },
  };
}

const found = (text: string | undefined): TenantKey | null | undefined =>
  text === undefined ? undefined : (keyOf(text) ?? null);

function hostOf(request: Request, { trustForwardedHost = false }: HostOptions): string | undefined {
  if (!trustForwardedHost) return normaliseHost(request.headers.host);
  const forwarded = request.headers['x-forwarded-host'];
  if (forwarded === undefined) return normaliseHost(request.headers.host);
  // More than one: some proxy passed on what a client sent, and which one is ours cannot be known.
  return normaliseHost(typeof forwarded === 'string' ? forwarded : forwarded.join());
}

const PLAIN_HOST = /^[a-z0-9.-]+$/;

/** Lower case, without port and trailing dot, in ASCII (IDNA); undefined for what is no name. */
export function normaliseHost(text: string | undefined): string | undefined {
  if (text === undefined || text.length > 260) return undefined;
  const bare = text
    .trim()
    .replace(/:\d{1,5}$/, '')
    .replace(/\.$/, '');
  if (PLAIN_HOST.test(bare)) return bare;
  // Besides what IDNA refuses: user information, paths, lists and IPv6 addresses are no names.
  return /[@/\\?#,\s:[\]%]/.test(bare) ? undefined : domainToASCII(bare) || undefined;
}

function authClaim(request: Request, name: string): unknown {
  if (!('auth' in request)) return undefined;
  const { auth } = request;
  if (!isRecord(auth)) return undefined;
  const payload = auth['payload'];
  return isRecord(payload) ? payload[name] : auth[name];
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;
