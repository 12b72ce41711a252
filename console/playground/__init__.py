"""The playground: a customer chats with their tenant's adapter and checks what it answers.

A client of the gateway like any other, over HTTP; it opens no database and imports no service but
the settings and the errors. Owns one chat page (Gradio) and the key of whoever is signed in there,
which it keeps in the memory of this process only: never in an address, a cookie or a page. Refuses
to render what a model says as anything but text, and to load anything from another host.
"""
