package halfopen

// Error says why a connection has failed. Its values are in the order of error-code in
// wit/deps/halfopen-tcp/types.wit.
type Error uint32

// names are those that Node has.
var names = [...]string{
	"EACCES", "EOPNOTSUPP", "EINVAL", "ENOMEM", "ETIMEDOUT", "EINVAL", "EADDRNOTAVAIL",
	"EADDRINUSE", "EHOSTUNREACH", "ECONNREFUSED", "EPIPE", "ECONNRESET", "ECONNABORTED",
	"EMSGSIZE", "EIO",
}

// Error returns the name of the error, such as ECONNRESET.
func (e Error) Error() string {
	if int(e) < len(names) {
		return names[e]
	}
	return "EIO"
}
