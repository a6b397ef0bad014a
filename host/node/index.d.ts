/// <reference types="node" />
import type { Server as NetServer, Socket } from 'node:net';

/** What a service may do and use. The defaults are those of the command `halfopen serve`. */
export interface ServiceOptions {
  /** The service's arguments. (default: none) */
  args?: readonly string[];
  /** The service's environment variables. (default: none) */
  env?: Readonly<Record<string, string>>;
  /**
   * `connection` gives each connection an instance of its own, `shared` one instance to all of them.
   * (default: what the service declares, or else `connection`)
   */
  isolation?: 'connection' | 'shared';
  /**
   * Where the service may connect: `ADDRESS:PORT`, `ADDRESS:LOW-HIGH`, `ADDRESS:*` or a network in
   * CIDR notation. A rule for the whole internet opens no private network. (default: nowhere)
   */
  allowConnect?: readonly string[];
  /** The most bytes of memory of an instance, and of what it has written and not sent. (default: 256 MiB) */
  maxMemory?: number;
  /** The most connections that are open; a further one is reset. (default: 4096) */
  maxConnections?: number;
  /**
   * The milliseconds without a byte in either direction after which a connection is reset; 0 for
   * none. (default: 600000)
   */
  idleTimeout?: number;
  /** The milliseconds within which a connection that the service makes must exist. (default: 10000) */
  connectTimeout?: number;
  /** Gets what the service prints: whole lines, with their ends. (default: to standard output) */
  stdout?: (line: Uint8Array) => void;
  /** Gets what the service prints on standard error. (default: to standard error) */
  stderr?: (line: Uint8Array) => void;
  /** Gets what the host has to say: traps, refusals, denials. (default: a line on standard error) */
  log?: (entry: LogEntry) => void;
}

/** Where to listen, and what the service may do. */
export interface ServeOptions extends ServiceOptions {
  /** The IP address to listen on. (default: 127.0.0.1) */
  host?: string;
  /** The port; 0 lets the system choose one. (default: 1234) */
  port?: number;
  /** The connections that the system may queue. (default: 511) */
  backlog?: number;
}

/** Something that the host has to say. */
export interface LogEntry {
  level: 'warn';
  /** One line. */
  message: string;
  /** The address of the peer that this is about, if it is about one. */
  peer?: string;
}

/** A server of Node that serves a component. */
export interface Server extends NetServer {
  /**
   * Stops listening, and waits until the connections have ended. Resets those that are left after
   * `grace` milliseconds (default: 10000), and returns their number.
   */
  stop(grace?: number): Promise<number>;
}

/**
 * Serves a component in callback style, and returns the server once it listens.
 *
 * @param component the path of the file, or its contents
 */
export function serve(component: string | URL | Uint8Array, options?: ServeOptions): Promise<Server>;

/**
 * Returns what `net.createServer({ allowHalfOpen: true, noDelay: true }, …)` takes, to serve a
 * component on a server of your own.
 */
export function listener(
  component: string | URL | Uint8Array,
  options?: ServiceOptions,
): Promise<(socket: Socket) => void>;

/** The file is not a component, or this host cannot run it. */
export class ComponentError extends Error {}

/** An option is wrong. */
export class UsageError extends Error {}
