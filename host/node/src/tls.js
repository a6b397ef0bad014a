/**
 * The peer's TLS session, as `halfopen:tcp/peer` describes it.
 *
 * @typedef {object} TlsSession
 * @property {string | null} version
 * @property {string | null} serverName
 * @property {string | null} applicationProtocol
 * @property {string | null} commonName of a certificate that was verified
 * @property {Uint8Array[]} certificates those that were verified, the peer's own first, in DER
 */

/** Returns the TLS session that ends here; `null` if there is none. @param {any} socket @returns {TlsSession | null} */
export function tlsSession(socket) {
  if (!socket.encrypted) return null;
  const verified = socket.authorized ? socket.getPeerCertificate(true) : null;
  return {
    version: socket.getProtocol() ?? null,
    serverName: socket.servername || null,
    applicationProtocol: socket.alpnProtocol || null,
    commonName: verified?.subject?.CN ?? null,
    certificates: chain(verified),
  };
}

/** @param {any} certificate */
function chain(certificate) {
  /** @type {Uint8Array[]} */
  const found = [];
  // The chain ends with a certificate that has issued itself.
  while (certificate?.raw && !found.includes(certificate.raw)) {
    found.push(certificate.raw);
    certificate = certificate.issuerCertificate;
  }
  return found;
}
