"""Views without Django REST framework: what the middleware and the decorators do."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from jwt_auth.decorators import jwt_exempt, jwt_required, recent_login_required
from notes.models import Note

# Nothing but the page's own files; no inline script or style could run.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@require_safe
@jwt_exempt  # with a cookie of a session that has ended, it is a page all the same
def index(request: HttpRequest) -> HttpResponse:
    """Show the page to sign in and to call the API, and whom the access cookie names."""
    name = request.user.get_username() if request.user.is_authenticated else ""
    browser = reverse("jwt_auth_browser:csrf").removesuffix("csrf/")
    response = render(request, "notes/index.html", {"name": name, "browser": browser})
    response["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@require_safe
def titles(request: HttpRequest) -> HttpResponse:
    """List titles as plain text: the published ones, and the caller's with a token.

    An ordinary Django view. `JWTAuthenticationMiddleware` has set the user; one who
    sends no token is nobody, and a token that is refused does not come here.
    """
    owner = request.user if request.user.is_authenticated else None
    notes = Note.objects.visible_to(owner)
    text = "".join(f"{note.title}\n" for note in notes)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@require_safe
@jwt_required
async def summary(request: HttpRequest) -> HttpResponse:
    """Count the caller's notes, on the event loop."""
    user = await request.auser()
    own = Note.objects.filter(owner=user)
    return JsonResponse(
        {
            "user": user.get_username(),
            "notes": await own.acount(),
            "published": await own.filter(published=True).acount(),
        }
    )


@require_safe
@recent_login_required(minutes=10)
def export(request: HttpRequest) -> HttpResponse:
    """Hand out everything that the caller has written, to who has just signed in."""
    notes = Note.objects.filter(owner=request.user).values("title", "text", "created_at")
    return JsonResponse({"notes": list(notes)})
