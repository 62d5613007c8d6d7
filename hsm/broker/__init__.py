"""The broker: one owner per token. Its workers alone load the module and know the PIN; everybody else asks by socket.

    wire          what goes over the socket
    worker        one process, one session, one call at a time
    admission     who may use which key
    supervisor    queue, deadlines, workers' lives; never inside the module itself
"""
