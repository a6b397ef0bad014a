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

/** The course of a connection through the states of TCP. */
class Course {
  constructor({ in: received, out: sent, acknowledged } = {}) {
    this.ended = { in: received === 'ended', out: sent === 'ended' };
    /** Whose FIN came first: `in` is the peer's. */
    this.first = null;
    /** Whether the peer has acknowledged the service's FIN. */
    this.acknowledged = acknowledged === true;
    this.reset = false;
  }

  take(event) {
    switch (event.event) {
      case 'fin': {
        const other = event.dir === 'in' ? 'out' : 'in';
        // The other one may have come before the snapshot.
        this.first ??= this.ended[other] && !this.ended[event.dir] ? other : event.dir;
        this.ended[event.dir] = true;
        break;
      }
      case 'acknowledged':
        this.acknowledged = true;
        break;
      case 'rst':
        this.reset = true;
        break;
      default:
    }
  }

  /** The state, by the names of RFC 9293. */
  get state() {
    const { in: received, out: sent } = this.ended;
    if (this.reset) return 'CLOSED';
    if (received && sent) return this.first === 'out' ? 'TIME-WAIT' : 'LAST-ACK';
    if (received) return 'CLOSE-WAIT';
    if (!sent) return 'ESTABLISHED';
    return this.acknowledged ? 'FIN-WAIT-2' : 'FIN-WAIT-1';
  }
}

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
    this.course = new Course(event);
    /** The same by its events alone, of which those that are kept may be of before the snapshot. */
    this.told = new Course();
    /** How many events had been lost when its first event came; `null` if that was before. */
    this.lostBefore = null;
    /** The event that keeps each direction from moving, if anything does. */
    this.blocked = { in: null, out: null };
    /** The event of a service that has paused. */
    this.paused = null;
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
    return this.closed ? 'CLOSED' : this.course.state;
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
  blocked: (connection, event) => (connection.blocked[event.dir] = event),
  unblocked: (connection, event) => (connection.blocked[event.dir] = null),
  paused: (connection, event) => (connection.paused = event),
  resumed: (connection) => (connection.paused = null),
  closed(connection, event) {
    connection.closed = event;
    connection.received = event.received ?? connection.received;
    connection.sent = event.sent ?? connection.sent;
    connection.age = event.age ?? event.at - connection.began;
    connection.blocked = { in: null, out: null };
    connection.paused = null;
  },
};

/** The event that an event puts an end to, if there is one. */
const BEGUN = {
  unblocked: (connection, event) => connection.blocked[event.dir],
  resumed: (connection) => connection.paused,
};

/**
 * Takes an event along the course of its connection. Returns it with the `state` to which it has
 * led, if that is another one, and with how long it `took` until it came, if it ends something.
 */
function explained(connection, event, lost) {
  const { course, told } = connection;
  const followed = connection.lostBefore === lost ? told : course;
  const before = followed.state;
  course.take(event);
  told.take(event);
  const { state } = followed;
  const begun = BEGUN[event.event]?.(connection, event);
  if (state === before && !begun) return event;
  return {
    ...event,
    ...(state !== before && { state }),
    ...(begun && { took: Math.max(0, event.at - begun.at) }),
  };
}

export class Model {
  constructor(limits = LIMITS) {
    this.limits = limits;
    this.hello = null;
    /** The connection whose events are kept before all others. */
    this.chosen = null;
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
    const { events, dropped, version, course } = known;
    Object.assign(known, new Connection(event.id, event), { events, dropped });
    known.course.first = course.first;
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
      connection.lostBefore = this.lost;
    }
    if (event.event === 'closed') return this.#close(connection, event);
    this.#keep(connection, explained(connection, event, this.lost));
    CHANGES[event.event]?.(connection, event);
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
    if (this.kept > this.limits.allEvents) this.#makeRoom();
  }

  /** Makes room for a quarter, so that this is done seldom. Those with the most events lose some. */
  #makeRoom() {
    const most = (this.limits.allEvents * 3) / 4;
    const all = [...this.connections.values()];
    const sum = (each) => all.reduce((total, { events }) => total + Math.min(events.length, each), 0);
    let each = this.limits.events;
    while (each > 1 && sum(each) > most) each = Math.floor(each / 2);
    for (const other of all) {
      if (other.id !== this.chosen) this.#forget(other, other.events.length - each);
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
