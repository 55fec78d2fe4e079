/**
 * WebSockets and other upgrades. The same resolvers as for any request say whose it is before the connection is taken, and
 * listeners hear what comes over it as that tenant.
 */
import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { Request } from 'express';
import type { Logger } from 'pino';
import { TenantryError } from '../../domain/errors.js';
import { PROBLEM_TYPE } from '../../domain/problem.js';
import type { Directory } from '../context/directory.js';
import { bindEmitter, enterTenant } from '../context/tenant-context.js';
import { KeptOpen } from './kept-open.js';
import { answerTo } from './problem.js';
import { type TenancyOptions, type TenancyParts, tenantOf } from './tenancy.js';
import { traceOf } from './trace.js';

/** A listener of `server.on('upgrade', ...)`. */
export type OnUpgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
/** Takes the connection, such as by `handleUpgrade` of `ws`. It runs as the tenant. */
export type TakeUpgrade = (...upgrade: Parameters<OnUpgrade>) => void | Promise<void>;

export function createUpgrade(
  parts: TenancyParts & { readonly directory: Directory; readonly log: Logger },
  options: TenancyOptions,
  take: TakeUpgrade,
): OnUpgrade {
  const keptOpen = new KeptOpen(parts.directory);
  return (request, socket, head) => {
    // Node has removed its own listener, so an error of a client that is gone would end the process.
    socket.on('error', () => socket.destroy());
    const trace = traceOf(request.headers);
    let isTaken = false;
    const refuse = (error: unknown): void => {
      if (!(error instanceof TenantryError))
        parts.log.error({ err: error, correlationId: trace.correlationId }, 'an upgrade failed');
      // Whoever took the connection may have written to it.
      if (isTaken) socket.destroy();
      else answer(socket, error, trace.correlationId);
    };
    const enter = async (): Promise<void> => {
      const tenant = await tenantOf(parts, options, request as Request, trace);
      if (socket.destroyed) return;
      for (const resolver of options.resolve) resolver.entered?.(request as Request);
      await enterTenant(tenant, () => {
        // The connection serves no other request from now on.
        for (const heard of [request, socket]) bindEmitter(heard);
        isTaken = true;
        keptOpen.add(tenant, socket);
        return take(request, socket, head);
      });
    };
    enter().catch(refuse);
  };
}

function answer(socket: Duplex, error: unknown, correlationId: string): void {
  if (socket.destroyed) return;
  const told = error instanceof TenantryError ? error : new TenantryError('INTERNAL');
  const { status, headers, body } = answerTo(told, correlationId);
  const lines = Object.entries({
    Connection: 'close',
    'Content-Type': PROBLEM_TYPE,
    'Content-Length': String(Buffer.byteLength(body)),
    ...headers,
  }).map(([name, value]) => `${name}: ${value}\r\n`);
  // The client may leave its own side open for ever.
  socket.once('finish', () => socket.destroy());
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n${body}`);
}
