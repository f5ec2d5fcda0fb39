# Answers with the path that a WSGI application is given (PEP 3333), as bytes.
def app(environ, start_response):
    body = environ["PATH_INFO"].encode("latin-1")
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
