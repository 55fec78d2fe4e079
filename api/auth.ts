/**
 * Who calls. Until access control comes there is one caller, who knows the token; what replaces this keeps its
 * shape: a middleware that lets a request pass or throws UNAUTHENTICATED.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { RequestHandler } from 'express';
import { TenantryError } from '../domain/errors.js';

export function requireBearer(token: string): RequestHandler {
  const expected = digest(token);
  return (request, _response, next) => {
    const given = /^Bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(request.headers.authorization ?? '')?.[1];
    // Digests have one length, so that the comparison takes the same time however long or wrong the token is.
    if (given === undefined || !timingSafeEqual(digest(given), expected))
      throw new TenantryError('UNAUTHENTICATED');
    next();
  };
}

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
