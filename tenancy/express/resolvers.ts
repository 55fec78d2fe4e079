/**
 * Where a request says whose it is. Each resolver finds a tenant's slug or id in one place, or nothing. What it finds may
 * be anybody's word, so it is looked up before it counts.
 */
import { domainToASCII } from 'node:url';
import type { Request } from 'express';
import { keyOf, slugKey, type TenantKey } from '../context/directory.js';

export interface Resolver {
  /** Named in the answer when two places disagree. */
  readonly source: string;
  /**
   * `undefined` if the place names nothing, so that other places decide; `null` if it names what can be no tenant, and the
   * request is nobody's.
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
 * twice. Other hosts say nothing.
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

/** The customers' own hosts: `whose` gets the host normalised, and says which tenant's it is. A malformed one is nobody's. */
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
 * `/t/acme/tickets` with the prefix `/t/`. With `strip`, later handlers see `/tickets`. A segment that is not spelled as a
 * slug (escaped, in capitals) is nobody's. So is a path whose beginning Express or a proxy may take for the prefix: in
 * another case, with backslashes.
 */
export function path(prefix: string, { strip = true }: { readonly strip?: boolean } = {}): Resolver {
  if (!/^\/(.*\/)?$/.test(prefix)) throw new TypeError('a prefix begins and ends with /');
  const loose = prefix.toLowerCase();
  const segmentOf = (request: Request): string | null | undefined => {
    const pathname = pathOf(request);
    if (pathname === null) return null;
    if (!pathname.startsWith(prefix))
      return pathname.replaceAll('\\', '/').toLowerCase().startsWith(loose) ? null : undefined;
    // Parsing has changed it, so somebody else may read another path.
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
 * A claim of a token that the product has verified. It is read from `request.auth`, where the usual middleware for JWTs puts
 * the claims (express-jwt, express-oauth2-jwt-bearer; jose's claims, or all that `jwtVerify` gives), or by `read`.
 *
 * Tokens are not verified here. A middleware that lets a request pass although it could not verify the token
 * (express-jwt's `optionalToken`) must put nothing there. A request without the claim says nothing: see `required`.
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
 * A place that must say whose the request is. If it names nothing, the request is nobody's, whatever other places say. Put
 * it around a claim that has to confirm what a host or a header names; else a request without a token would pass.
 */
export function required(resolver: Resolver): Resolver {
  return { ...resolver, find: (request) => resolver.find(request) ?? null };
}

/**
 * The path that Express routes by; `url` may be absolute. An upgrade does not come to Express, and whoever takes it may
 * read an absolute URL in its own way, so there it is nobody's.
 */
function pathOf(request: { readonly path?: string; readonly url: string }): string | null {
  if (request.path !== undefined) return request.path;
  return request.url.startsWith('/') ? request.url.replace(/[?#].*$/s, '') : null;
}

const found = (text: string | undefined): TenantKey | null | undefined =>
  text === undefined ? undefined : (keyOf(text) ?? null);

/** Null if it cannot be known, undefined if there is none that could be a tenant's. */
function hostOf(request: Request, { trustForwardedHost = false }: HostOptions): string | null | undefined {
  const forwarded = trustForwardedHost ? request.headers['x-forwarded-host'] : undefined;
  // If there are several, a proxy passed on what a client sent, and which is the proxy's own cannot be known.
  if (forwarded !== undefined)
    return normaliseHost(typeof forwarded === 'string' ? forwarded : forwarded.join());
  // Node keeps only the first, and a proxy may have gone by the other (RFC 9112, 3.2).
  if (isSentTwice(request.rawHeaders, 'host')) return null;
  const target = targetHost(request);
  const named = normaliseHost(request.headers.host ?? target);
  // If the two differ, a proxy goes by the target and Node by the header.
  return target === undefined || normaliseHost(target) === named ? named : null;
}

/** HTTP/2's `:authority` (RFC 9113, 8.3.1), or that of an absolute request line (RFC 9112, 3.2.2). */
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

/** No label is empty. Lengths are checked apart (RFC 1035, 2.3.4). */
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
  // User information, paths and lists, which IDNA would let pass.
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
  // Else `payload` is a claim by that name, and its content perhaps the holder's own words: nobody's.
  return within === undefined || isWrapped(auth) ? within : null;
}

/** Whether `payload` holds the claims: as express-oauth2-jwt-bearer or jose put them, with nothing else beside it. */
function isWrapped(auth: Record<string, unknown>): boolean {
  const { header, token, protectedHeader } = auth;
  return (
    ((isRecord(header) && typeof token === 'string') || isRecord(protectedHeader)) &&
    Object.keys(auth).every((name) => WRAPPING.has(name))
  );
}
const WRAPPING = new Set(['payload', 'header', 'token', 'protectedHeader', 'key']);

/** A copied token with a claim `__proto__` inherits what is in that, so only own properties count. */
const ownOf = (object: Record<string, unknown>, name: string): unknown =>
  Object.hasOwn(object, name) ? object[name] : undefined;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null;
