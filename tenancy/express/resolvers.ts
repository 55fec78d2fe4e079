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

/**
 * `acme.example.com` with the base `example.com`. Deeper names are nobody's, and so is a host that is malformed or sent
 * twice; other hosts say nothing.
 */
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
      if (host === null) return null;
      if (host === undefined || !host.endsWith(suffix)) return undefined;
      const label = host.slice(0, -suffix.length);
      return ignored.has(label) ? undefined : (slugKey(label) ?? null);
    },
  };
}

/** Hosts of the customers' own: the product knows whose each is. The host comes normalised; one that is malformed is nobody's. */
export function host(whose: (host: string) => string | undefined, options: HostOptions = {}): Resolver {
  return {
    source: 'host',
    find(request) {
      const name = hostOf(request, options);
      return name === undefined || name === null ? name : found(whose(name));
    },
  };
}

/**
 * `/t/acme/tickets` with the prefix `/t/`. Stripped, what comes after sees `/tickets`.
 * A segment that is not spelled as a slug is (escaped, in capitals) is nobody's, and so is one behind what Express or a proxy
 * may take for the prefix: in other case, with backslashes.
 */
export function path(prefix: string, { strip = true }: { readonly strip?: boolean } = {}): Resolver {
  if (!/^\/(.*\/)?$/.test(prefix)) throw new TypeError('a prefix begins and ends with /');
  const loose = prefix.toLowerCase();
  const segmentOf = (request: Request): string | null | undefined => {
    const pathname = pathOf(request);
    if (pathname === null) return null;
    if (!pathname.startsWith(prefix))
      return pathname.replaceAll('\\', '/').toLowerCase().startsWith(loose) ? null : undefined;
    // It became that when it was parsed.
    if (!request.url.includes(pathname)) return null;
    const end = pathname.indexOf('/', prefix.length);
    return pathname.slice(prefix.length, end === -1 ? undefined : end);
  };
  return {
    source: 'path',
    find(request) {
      const segment = segmentOf(request);
      if (segment === null) return null;
      return segment === undefined || segment === '' ? undefined : found(segment);
    },
    ...(strip
      ? {
          entered(request: Request) {
            const segment = segmentOf(request);
            if (segment === undefined || segment === null) return;
            const rest = (pathOf(request) ?? '').slice(prefix.length + segment.length);
            const query = request.url.indexOf('?');
            request.url =
              (rest.startsWith('/') ? rest : `/${rest}`) + (query === -1 ? '' : request.url.slice(query));
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
 * A claim of a token that the product has verified: of `request.auth`, where the usual middleware for JWTs puts the claims
 * (express-jwt, express-oauth2-jwt-bearer; of jose the claims, or all that `jwtVerify` gives), or wherever `read` finds it.
 * Tokens are not read here: what that middleware puts there is believed, so one that lets a request pass whose token it could
 * not verify must put nothing there (express-jwt's `optionalToken` may). A request without the claim says nothing here: where
 * that is not enough, see `required`.
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

/**
 * A place that must say whose the request is: one where it finds nothing is nobody's, whatever other places say. For a
 * claim that is to confirm what a host or a header names, which a token without that claim, or no token, would not.
 */
export function required(resolver: Resolver): Resolver {
  return { ...resolver, find: (request) => resolver.find(request) ?? null };
}

/**
 * What Express routes by, which is not the URL's text: that may be absolute. An upgrade does not come to Express, and whoever
 * takes it may read an absolute URL as it likes: so there it is nobody's.
 */
function pathOf(request: { readonly path?: string; readonly url: string }): string | null {
  if (request.path !== undefined) return request.path;
  return request.url.startsWith('/') ? request.url.replace(/[?#].*$/s, '') : null;
}

const found = (text: string | undefined): TenantKey | null | undefined =>
  text === undefined ? undefined : (keyOf(text) ?? null);

/** Null where it cannot be known, undefined where there is none that could be a tenant's. */
function hostOf(request: Request, { trustForwardedHost = false }: HostOptions): string | null | undefined {
  const forwarded = trustForwardedHost ? request.headers['x-forwarded-host'] : undefined;
  // More than one: some proxy passed on what a client sent, and which one is ours cannot be known.
  if (forwarded !== undefined)
    return normaliseHost(typeof forwarded === 'string' ? forwarded : forwarded.join());
  // Node keeps the first one alone, and a proxy may have gone by the other (RFC 9112, 3.2).
  if (isSentTwice(request.rawHeaders, 'host')) return null;
  const target = targetHost(request);
  const named = normaliseHost(request.headers.host ?? target);
  // Of two that differ a proxy goes by the target's, and Node by the header.
  return target === undefined || normaliseHost(target) === named ? named : null;
}

/** HTTP/2's (RFC 9113, 8.3.1), or that of a request line in the absolute form (RFC 9112, 3.2.2). */
function targetHost(request: Request): string | undefined {
  const authority = request.headers[':authority'];
  if (typeof authority === 'string') return authority;
  const line = request.originalUrl ?? request.url;
  return line.startsWith('/') ? undefined : /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(line)?.[1];
}

function isSentTwice(rawHeaders: readonly string[], name: string): boolean {
  let times = 0;
  for (let at = 0; at < rawHeaders.length; at += 2) {
    const sent = rawHeaders[at];
    if (sent?.length === name.length && sent.toLowerCase() === name) times++;
  }
  return times > 1;
}

/** Without an empty label; what is longer is no name (RFC 1035, 2.3.4). */
const PLAIN_HOST = /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/;
const IPV6 = /^\[[0-9a-f:.]+\](?::\d{0,5})?$/i;

/**
 * Lower case, without port and trailing dot, in ASCII (IDNA). Undefined for none and for an IPv6 address, null for what is
 * no host.
 */
export function normaliseHost(text: string | undefined): string | null | undefined {
  const given = text?.trim();
  if (given === undefined || given === '') return undefined;
  if (given.length > 260) return null;
  const bare = given.replace(/:\d{0,5}$/, '').replace(/\.$/, '');
  if (PLAIN_HOST.test(bare)) return bare;
  if (IPV6.test(given)) return undefined;
  // Besides what IDNA refuses: user information, paths and lists are no names.
  if (/[@/\\?#,\s:[\]%]/.test(bare)) return null;
  const ascii = domainToASCII(bare);
  return PLAIN_HOST.test(ascii) ? ascii : null;
}

function authClaim(request: Request, name: string): unknown {
  if (!('auth' in request)) return undefined;
  const { auth } = request;
  if (!isRecord(auth)) return undefined;
  const plain = ownOf(auth, name);
  if (plain !== undefined) return plain;
  const payload = ownOf(auth, 'payload');
  const within = isRecord(payload) ? ownOf(payload, name) : undefined;
  // A claim that is called `payload` holds no claims of the token, and maybe what its holder wrote: then it is nobody's.
  return within === undefined || isWrapped(auth) ? within : null;
}

/** Claims as express-oauth2-jwt-bearer puts them, or all that jose says of a token; and nothing beside these. */
function isWrapped(auth: Record<string, unknown>): boolean {
  const { header, token, protectedHeader } = auth;
  return (
    ((isRecord(header) && typeof token === 'string') || isRecord(protectedHeader)) &&
    Object.keys(auth).every((name) => WRAPPING.has(name))
  );
}
const WRAPPING = new Set(['payload', 'header', 'token', 'protectedHeader', 'key']);

/** A token's claims are its own: a copy of one with a claim `__proto__` inherits what is in that. */
const ownOf = (object: Record<string, unknown>, name: string): unknown =>
  Object.hasOwn(object, name) ? object[name] : undefined;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;
