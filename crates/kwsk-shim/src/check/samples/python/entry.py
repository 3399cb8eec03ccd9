def other(args):
    return {"other": True}
