// What the page knows: the connections and their events, folded from the stream. No DOM here.

/** How much is kept. Beyond that, the oldest goes first. */
export const LIMITS = {
  // Connections that have ended.
  ended: 1000,
  // Connections that are open.
  open: 20000,
  // Events of one connection.
  events: 400,
  // Events of all connections.
  allEvents: 60000,
};

/** A connection, as far as the page has heard of it. */
export class Connection {
  constructor(id, event) {
    this.id = id;
    this.service = event.service ?? '';
    this.peer = event.peer ?? '';
    this.local = event.local ?? '';
    this.began = event.began ?? event.at ?? 0;
    this.received = event.received ?? 0;
    this.sent = event.sent ?? 0;
    this.instance = event.instance ?? null;
    this.ended = { in: event.in === 'ended', out: event.out === 'ended' };
    /** Whose FIN came first: `in` is the peer's. */
    this.firstFin = null;
    /** What keeps each direction from moving, if anything does. */
    this.blocked = { in: null, out: null };
    this.paused = false;
    /** The event that closed it. */
    this.closed = null;
    /** Its end is only concluded. */
    this.guessed = false;
    this.age = 0;
    this.events = [];
    /** How many events came before those that are kept. */
    this.dropped = 0;
    /** Grows with each change. */
    this.version = 0;
  }

  /** The state of TCP, by the names of RFC 9293. */
  get state() {
    if (this.closed) return 'CLOSED';
    const { in: received, out: sent } = this.ended;
    if (received && sent) return this.firstFin === 'out' ? 'TIME-WAIT' : 'LAST-ACK';
    if (received) return 'CLOSE-WAIT';
    return sent ? 'FIN-WAIT' : 'ESTABLISHED';
  }

  get outcome() {
    return this.closed?.outcome ?? '';
  }
}

const CHANGES = {
  served: (connection, event) => (connection.instance = event.instance),
  proxy(connection, event) {
    if (event.check) return;
    connection.peer = event.peer ?? connection.peer;
    connection.local = event.local ?? connection.local;
  },
  data(connection, event) {
    const end = event.offset + event.length;
    const count = event.dir === 'in' ? 'received' : 'sent';
    // What is kept may be of before the snapshot.
    connection[count] = Math.max(connection[count], end);
  },
  fin(connection, event) {
    connection.ended[event.dir] = true;
    connection.firstFin ??= event.dir;
  },
  rst: (connection) => (connection.ended = { in: true, out: true }),
  blocked: (connection, event) => (connection.blocked[event.dir] = event),
  unblocked: (connection, event) => (connection.blocked[event.dir] = null),
  paused: (connection) => (connection.paused = true),
  resumed: (connection) => (connection.paused = false),
  closed(connection, event) {
    connection.closed = event;
    connection.received = event.received ?? connection.received;
    connection.sent = event.sent ?? connection.sent;
    connection.age = event.age ?? event.at - connection.began;
    connection.blocked = { in: null, out: null };
    connection.paused = false;
  },
};

export class Model {
  constructor(limits = LIMITS) {
    this.limits = limits;
    this.hello = null;
    this.clear();
  }

  clear() {
    /** By id, in the order in which they were accepted. */
    this.connections = new Map();
    this.endedIds = new Set();
    this.kept = 0;
    this.lastSeq = 0;
    /** Events that the server has not sent to this page. */
    this.lost = 0;
    /** The time of the last event, on the server's clock. */
    this.at = 0;
    this.version = 0;
  }

  /** Takes in an event. Returns the connection that it is about, if it is about one. */
  apply(event) {
    this.version += 1;
    switch (event.event) {
      case 'hello':
        // Another process counts connections and events anew.
        if (this.hello && (this.hello.pid !== event.pid || this.hello.began !== event.began)) this.clear();
        this.hello = event;
        // By the browser's clock, until the first event tells the time.
        if (this.lastSeq === 0) this.at = Math.max(0, (Date.now() - Date.parse(event.began)) / 1000) || 0;
        return null;
      case 'lost':
        this.lost += event.count;
        return null;
      case 'connection':
        return this.#snapshot(event);
      default:
    }
    // Sent again after the page has lost its connection to the server.
    if (event.seq <= this.lastSeq) return null;
    this.at = this.lastSeq === 0 ? event.at : Math.max(this.at, event.at);
    this.lastSeq = event.seq;
    if (event.event === 'instance') return this.#instance(event);
    const connection = this.#connection(event);
    if (connection) this.#add(connection, event);
    return connection;
  }

  /**
   * Marks as ended what is open here and was not among `ids` at a moment, after events were lost.
   * The server lists no connections that it has not served yet.
   */
  reconcile(ids, at) {
    for (const connection of this.connections.values()) {
      const { id, closed, instance, began } = connection;
      if (closed || instance === null || ids.has(id) || began >= at) continue;
      const cause = 'the page has not heard of its end, because events were lost';
      this.#close(connection, { event: 'closed', at, outcome: 'unknown', first: null, cause });
      connection.guessed = true;
    }
    this.version += 1;
  }

  #snapshot(event) {
    const known = this.connections.get(event.id);
    if (!known) return this.#insert(event);
    if (known.closed && !known.guessed) return known;
    this.endedIds.delete(event.id);
    const { events, dropped, version, firstFin } = known;
    Object.assign(known, new Connection(event.id, event), { events, dropped, firstFin });
    known.version = version + 1;
    return known;
  }

  #connection(event) {
    return this.connections.get(event.id) ?? (event.id === undefined ? null : this.#insert(event));
  }

  #insert(event) {
    if (this.connections.size - this.endedIds.size >= this.limits.open) return null;
    const connection = new Connection(event.id, event);
    this.connections.set(event.id, connection);
    return connection;
  }

  #add(connection, event) {
    if (connection.closed && !connection.guessed) return;
    connection.guessed = false;
    connection.closed = null;
    this.endedIds.delete(connection.id);
    if (event.event === 'accepted') {
      for (const key of ['service', 'peer', 'local']) connection[key] ||= event[key] ?? '';
      connection.began = event.at;
    }
    if (event.event === 'closed') return this.#close(connection, event);
    CHANGES[event.event]?.(connection, event);
    this.#keep(connection, event);
  }

  #close(connection, event) {
    CHANGES.closed(connection, event);
    this.#keep(connection, event);
    this.endedIds.add(connection.id);
    while (this.endedIds.size > this.limits.ended) {
      const [oldest] = this.endedIds;
      this.endedIds.delete(oldest);
      this.kept -= this.connections.get(oldest).events.length;
      this.connections.delete(oldest);
    }
  }

  #keep(connection, event) {
    connection.version += 1;
    connection.events.push(event);
    this.kept += 1;
    this.#forget(connection, connection.events.length - this.limits.events);
    if (this.kept <= this.limits.allEvents) return;
    // Seldom, because it makes room for a quarter.
    for (const other of this.connections.values()) {
      if (this.kept <= (this.limits.allEvents * 3) / 4) return;
      this.#forget(other, other.events.length - 8);
    }
  }

  #forget(connection, count) {
    if (count <= 0) return;
    connection.events.splice(0, count);
    connection.dropped += count;
    this.kept -= count;
  }

  /** What happens to an instance happens to the connections that it serves. */
  #instance(event) {
    if (event.what !== 'trapped') return null;
    for (const connection of this.connections.values()) {
      const serves = connection.instance === event.instance && connection.service === event.service;
      if (serves && !connection.closed) this.#keep(connection, event);
    }
    return null;
  }
}
