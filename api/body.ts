/** Reads a JSON body: the type first, then the size, then the text; nothing is parsed before all three are right. */
import { isUtf8 } from 'node:buffer';
import express, { type RequestHandler } from 'express';
import { TenantryError } from '../domain/errors.js';

/** @param limit bytes */
export function readJson(limit: number): RequestHandler {
  const parse = express.json({
    limit,
    type: () => true,
    // A compressed body would be small on the wire and large here.
    inflate: false,
    // Any JSON value: what it should be is the schema's to say.
    strict: false,
    verify: (_request, _response, bytes) => {
      // The parser takes no bytes for {}, and puts a replacement character where the UTF-8 is broken.
      if (bytes.length === 0 || !isUtf8(bytes)) throw new TenantryError('INVALID_JSON');
    },
  });
  return (request, response, next) => {
    if (!/^application\/json *(;|$)/i.test(request.headers['content-type'] ?? ''))
      throw new TenantryError('UNSUPPORTED_MEDIA_TYPE');
    const { 'content-length': length, 'transfer-encoding': chunked } = request.headers;
    if (length === undefined && chunked === undefined) throw new TenantryError('INVALID_JSON');
    parse(request, response, next);
  };
}
