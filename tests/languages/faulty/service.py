from halfopen import Connection, events


class Faulty(Connection):
    def on_data(self, data: bytes) -> None:
        if b"!" in data:
            raise ValueError("out of order")
        self.write(data)


Events = events(Faulty)
